import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { SMTPServer } from 'smtp-server'
import { connectAlone } from '#src/db/connect-alone.ts'
import { startEmbeddedPostgres } from '#dev/embedded-postgres/embedded-postgres.ts'

/** Forgotten passwords of so many users while the mail server is down, the service killed twice, then the server back. */
const count = Number(process.argv[2] ?? 10_000)
const atOnce = 20

const folder = await mkdtemp(join(tmpdir(), 'latchkey-bench-'))
await chmod(folder, 0o755)
const postgres = await startEmbeddedPostgres({ dataDir: join(folder, 'postgres') })
const smtpPort = await freePort()
const delivered = new Map<string, number>()
let service = await start()
const sql = connectAlone(postgres.url)
await sql`insert into users (email) select 'user' || n || '@example.com' from generate_series(1, ${count}) n`

const known = await ask(
  Array.from({ length: count }, (_, n) => `user${n + 1}@example.com`),
  { killAt: [count / 3, (2 * count) / 3] },
)
const unknown = await ask(Array.from({ length: 200 }, (_, n) => `nobody${n}@example.com`))
const knownAgain = await ask(Array.from({ length: 200 }, (_, n) => `user${n + 1}@example.com`))
const [queued] = await sql`select count(*)::integer as mails from outbox where sent_at is null and dead_at is null`

const server = new SMTPServer({
  disabledCommands: ['AUTH', 'STARTTLS'],
  onData(stream, session, done) {
    stream.resume().on('end', () => {
      for (const { address } of session.envelope.rcptTo) delivered.set(address, (delivered.get(address) ?? 0) + 1)
      done()
    })
  },
})
server.listen(smtpPort, '127.0.0.1')
const back = performance.now()
for (;;) {
  const [row] = await sql`select count(*)::integer as waiting from outbox where sent_at is null and dead_at is null`
  if (row?.['waiting'] === 0) break
  await setTimeout(200)
}
const seconds = (performance.now() - back) / 1000
const metrics = await (await fetch(`${service.base}/metrics`)).text()
const [outdated] = await sql`select count(*)::integer as links from outbox where last_error = 'LINK_OUTDATED'`
console.log(
  JSON.stringify({
    users: count,
    queued: queued?.['mails'],
    delivered: delivered.size,
    twice: [...delivered.values()].filter((times) => times > 1).length,
    replacedByANewerLink: outdated?.['links'],
    metrics: metrics.match(/^auth_mail\S+ \d+$/gm),
    secondsToSend: Math.round(seconds),
    msKnown: knownAgain,
    msUnknown: unknown,
    msWhileKilled: known,
  }),
)

service.child.kill('SIGTERM')
await once(service.child, 'exit')
server.close()
await sql.end()
await postgres.stop()
await rm(folder, { recursive: true })

/** Asks for a link for each address, again when the service was killed meanwhile; resolves to the median time in ms. */
async function ask(addresses: string[], { killAt = [] }: { killAt?: number[] } = {}): Promise<number> {
  const times: number[] = []
  const left = addresses.values()
  const kills = killAt.values()
  let next = kills.next().value ?? Infinity
  let restarting: Promise<void> | undefined
  let done = 0
  const work = async () => {
    for (const email of left) {
      for (;;) {
        const started = performance.now()
        const ok = await request(email)
        if (ok) {
          times.push(performance.now() - started)
          break
        }
        await restarting
      }
      if (++done >= next) {
        next = kills.next().value ?? Infinity
        restarting = restart()
        await restarting
      }
    }
  }
  await Promise.all(Array.from({ length: atOnce }, work))
  return Math.round(times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0)
}

async function request(email: string): Promise<boolean> {
  try {
    const body = JSON.stringify({ email })
    const headers = { 'content-type': 'application/json' }
    return (await fetch(`${service.base}/api/v1/forgot-password`, { method: 'POST', body, headers })).status === 202
  } catch {
    return false
  }
}

async function restart(): Promise<void> {
  service.child.kill('SIGKILL')
  await once(service.child, 'exit')
  service = await start()
}

async function start(): Promise<{ child: ChildProcess; base: string }> {
  const port = await freePort()
  const env = {
    PATH: process.env['PATH'],
    PORT: String(port),
    DATABASE_URL: postgres.url,
    SECRET_KEY: 'a-key-for-the-benchmark-0123456789-abcdef',
    SMTP_URL: `smtp://127.0.0.1:${smtpPort}`,
    MAIL_FROM: 'auth@example.com',
    RATE_LIMITS: 'off',
    LOG_LEVEL: 'silent',
  }
  const child = spawn(process.execPath, [join(import.meta.dirname, '../src/server.ts')], { env, stdio: 'ignore' })
  const base = `http://127.0.0.1:${port}`
  while (
    !(await fetch(`${base}/ready`).then(
      ({ ok }) => ok,
      () => false,
    ))
  )
    await setTimeout(50)
  return { child, base }
}

async function freePort(): Promise<number> {
  const socket = createServer().listen(0, '127.0.0.1')
  await once(socket, 'listening')
  const { port } = socket.address() as { port: number }
  socket.close()
  return port
}

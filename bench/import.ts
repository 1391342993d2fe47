import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createWriteStream, readFileSync } from 'node:fs'
import { chmod, mkdtemp, rm, stat } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { parseArgs } from 'node:util'
import { startEmbeddedPostgres } from '#dev/embedded-postgres/embedded-postgres.ts'

/**
 * `npm run bench:import -- [--users N] [--format jsonl|csv]`: imports N users of mixed hashes, one in a hundred of them bad,
 * into an empty embedded Postgres, twice, and exports them; prints one JSON line. Peak memory is that of the command.
 */
const { values } = parseArgs({
  options: { users: { type: 'string', default: '1000000' }, format: { type: 'string', default: 'jsonl' } },
})
const count = Number(values.users)
const format = values.format === 'csv' ? 'csv' : 'jsonl'
const random = (length: number) =>
  randomBytes(length)
    .toString('base64url')
    .replaceAll(/[^A-Za-z0-9]/g, 'x')
    .slice(0, length)
const hashes = [
  () => `$2b$12$${random(53)}`,
  () => `$2a$10$${random(53)}`,
  () => `$2y$10$${random(53)}`,
  () => `$argon2id$v=19$m=65536,t=3,p=4$${random(22)}$${random(43)}`,
  () => null,
]

const folder = await mkdtemp(join(tmpdir(), 'latchkey-import-'))
// As root, Postgres runs as another user, who has to get through.
await chmod(folder, 0o755)
const file = join(folder, `users.${format}`)
const database = await startEmbeddedPostgres({ dataDir: join(folder, 'postgres') })
try {
  await pipeline(Readable.from(generated()), createWriteStream(file))
  const bytes = (await stat(file)).size
  const report = ['--report', join(folder, 'report.jsonl')]
  await admin(['migrate'])
  const dryRun = await admin(['import', file, '--dry-run', ...report])
  const first = await admin(['import', file, ...report])
  const second = await admin(['import', file, ...report])
  const written = await admin(['export', join(folder, 'export.jsonl')])
  const result = { bench: 'import', users: count, format, bytes, cores: availableParallelism(), node: process.version }
  process.stdout.write(`${JSON.stringify({ ...result, dryRun, first, second, export: written })}\n`)
} finally {
  await database.stop()
  await rm(folder, { recursive: true, force: true })
}

interface Run {
  readonly seconds: number
  readonly peakMiB: number
  readonly said: string
}

async function admin(args: string[]): Promise<Run> {
  const started = performance.now()
  const env = { PATH: process.env['PATH'], DATABASE_URL: database.url, SECRET_KEY: randomBytes(32).toString('hex') }
  const program = new URL('../src/admin.ts', import.meta.url).pathname
  const child = spawn(process.execPath, [program, ...args], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  let said = ''
  let peakKiB = 0
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
  const timer = setInterval(() => (peakKiB = Math.max(peakKiB, highWater(child.pid))), 50)
  const [code] = (await once(child, 'close')) as [number | null]
  clearInterval(timer)
  if (code !== 0) throw new Error(`${args[0]} ended with ${code}`)
  const seconds = Math.round((performance.now() - started) / 100) / 10
  return { seconds, peakMiB: Math.round(peakKiB / 1024), said: said.trim() }
}

/** The most resident memory of a process so far, in KiB; Linux only. */
function highWater(pid: number | undefined): number {
  try {
    return Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0)
  } catch {
    return 0
  }
}

function* generated(): Generator<string, void, undefined> {
  const names = [
    'email',
    'username',
    'full_name',
    'roles',
    'is_active',
    'created_at',
    'email_verified',
    'password_hash',
  ]
  if (format === 'csv') yield `${names.join(',')}\n`
  let chunk = ''
  for (let i = 0; i < count; i++) {
    const row = Object.values(user(i))
    chunk +=
      format === 'csv'
        ? `${row.map((cell) => `"${String(cell ?? '')}"`).join(',')}\n`
        : `${JSON.stringify(Object.fromEntries(names.map((name, n) => [name, row[n]])))}\n`
    if (i % 1000 < 999) continue
    yield chunk
    chunk = ''
  }
  yield chunk
}

function user(i: number) {
  // One in a hundred is bad: by turns an address, a hash of unbounded cost, and somebody who was there before.
  const fault = i % 100 === 99 ? Math.floor(i / 100) % 3 : undefined
  return {
    email: fault === 0 ? `user ${i}` : `user${fault === 2 ? i - 50 : i}@example.com`,
    username: i % 3 === 0 ? null : `user.${i}`,
    fullName: `User Number ${i}`,
    roles: i % 50 === 0 ? ['user', 'editor'] : ['user'],
    isActive: i % 20 !== 0,
    createdAt: new Date(1_500_000_000_000 + i * 60_000).toISOString(),
    emailVerified: i % 2 === 0,
    passwordHash: fault === 1 ? `$2b$31$${random(53)}` : hashes[i % hashes.length]?.(),
  }
}

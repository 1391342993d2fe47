import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { password } from '#test/support/actors.ts'
import { cleanUp } from '#test/support/clean-up.ts'
import { freePort, onDatabase, type ServerProcess, startServer, temporaryFolder } from '#test/support/process.ts'
import { cloneDatabase, startService } from '#test/support/service.ts'

interface Addresses {
  readonly folder: string
  readonly port: number
  /** Host and port of each instance of the service. */
  readonly upstreams: readonly string[]
}

const deploy = new URL('../../deploy/', import.meta.url).pathname
/** Replaces what is there exactly as often as it says, or the file has changed. */
function replaced(file: string, changes: ReadonlyArray<readonly [string, string]>): string {
  let text = readFileSync(join(deploy, file), 'utf8')
  for (const [from, to] of changes) {
    if (!text.includes(from)) throw new Error(`${file} has no ${from}`)
    text = text.replaceAll(from, () => to)
  }
  return text
}

async function startNginx({ folder, port, upstreams }: Addresses): Promise<ChildProcess> {
  const [certificate, key] = [join(folder, 'certificate.pem'), join(folder, 'key.pem')]
  const subject = ['-subj', '/CN=auth.example.com', '-days', '1', '-nodes']
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-keyout', key, '-out', certificate, ...subject], {
    stdio: 'ignore',
  })
  const server = replaced('nginx/latchkey.conf', [
    ['server 127.0.0.1:8000;', upstreams.map((upstream) => `server ${upstream};`).join('\n  ')],
    ['listen 443 ssl;', `listen 127.0.0.1:${port} ssl;`],
    ['listen [::]:443 ssl;', ''],
    ['/etc/ssl/auth.example.com.pem', certificate],
    ['/etc/ssl/auth.example.com.key', key],
  ])
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${folder}/${name};`,
  )
  const own = ['daemon off;', `pid ${folder}/pid;`, 'events {}', 'http {', 'access_log off;', ...paths, server, '}']
  await writeFile(join(folder, 'nginx.conf'), own.join('\n'))
  return spawn('nginx', ['-c', join(folder, 'nginx.conf'), '-e', 'stderr'], { stdio: ['ignore', 'ignore', 'inherit'] })
}

async function startCaddy({ folder, port, upstreams }: Addresses): Promise<ChildProcess> {
  const site = replaced('caddy/Caddyfile', [
    ['auth.example.com {', `https://auth.example.com:${port} {\n\ttls internal`],
    ['127.0.0.1:8000', upstreams.join(' ')],
  ])
  const own = `{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}\n${site}`
  await writeFile(join(folder, 'Caddyfile'), own)
  const options = ['run', '--config', join(folder, 'Caddyfile'), '--adapter', 'caddyfile']
  const env = { PATH: process.env['PATH'], HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder }
  return spawn('caddy', options, { env, stdio: 'ignore' })
}

interface Reply {
  readonly status: number
  readonly headers: Record<string, unknown>
}

const proxies = [
  { name: 'nginx', version: ['-v'], start: startNginx },
  { name: 'caddy', version: ['version'], start: startCaddy },
]

describe.each(proxies)('the service behind $name as deploy/ has it, with TLS', (proxy) => {
  test('sees the address of the client and nobody else’s, and shows its metrics to nobody', async ({ skip }) => {
    if (isMissing(proxy)) return skip(`there is no ${proxy.name}`)
    const { app, sql } = await startService({ TRUSTED_PROXIES: '127.0.0.1/32', METRICS: 'open', HSTS: 'on' })
    await app.listen({ host: '127.0.0.1', port: 0 })
    const send = await openProxy(proxy, [app.listeningOrigin.replace('http://', '')])

    const person = JSON.stringify({ email: 'ada@example.com', password })
    const json = { 'content-type': 'application/json', 'x-forwarded-for': '203.0.113.7' }
    const registered = await send('POST', '/api/v1/users/', person, json)
    expect([registered.status, registered.headers['strict-transport-security']]).toEqual([
      201,
      'max-age=31536000; includeSubDomains',
    ])
    expect(await sql`select distinct ip from audit_events`).toEqual([{ ip: '127.0.0.1' }])
    expect((await send('GET', '/metrics')).status).toBe(404)
    expect((await send('POST', '/api/v1/users/', 'x'.repeat(70_000), json)).status).toBe(413)
  })

  test(
    'answers every request while one of two instances after the other is started anew',
    { timeout: 120_000 },
    async ({ skip }) => {
      if (isMissing(proxy)) return skip(`there is no ${proxy.name}`)
      const { url } = await cloneDatabase()
      const ports = [await freePort(), await freePort()]
      const instances = ports.map((port) => startInstance(url, port))
      await Promise.all(instances.map(({ listening }) => listening))
      const send = await openProxy(
        proxy,
        ports.map((port) => `127.0.0.1:${port}`),
      )
      const answers = new Map<number, number>()
      let isOver = false
      const client = async () => {
        for (;;) {
          const { status } = await send('POST', '/api/v1/validate')
          answers.set(status, (answers.get(status) ?? 0) + 1)
          if (isOver) return
        }
      }
      const clients = Promise.all(Array.from({ length: 4 }, client))
      for (const [place, port] of ports.entries()) {
        const other = ports[1 - place] ?? 0
        await vi.waitUntil(async () => (await answersOf(port)) > 0 && (await answersOf(other)) > 0, { timeout: 20_000 })
        instances[place]?.child.kill('SIGTERM')
        expect((await instances[place]?.exited)?.code).toBe(0)
        const before = await answersOf(other)
        await vi.waitUntil(async () => (await answersOf(other)) > before, { timeout: 20_000 })
        await startInstance(url, port).listening
        await vi.waitUntil(async () => (await answersOf(port)) > 0, { timeout: 20_000 })
      }
      isOver = true
      await clients
      expect([...answers.keys()]).toEqual([401])
    },
  )
})

type Proxy = (typeof proxies)[number]

function isMissing({ name, version }: Proxy): boolean {
  const isSo = spawnSync(name, version).error !== undefined
  if (isSo) console.log(`The test of ${name} is skipped: there is no ${name}.`)
  return isSo
}

function startInstance(url: string, port: number): ServerProcess {
  const environment = { ...onDatabase(url), PORT: String(port), TRUSTED_PROXIES: '127.0.0.1/32', DRAIN_SECONDS: '1' }
  return startServer(environment)
}

/** How many of the requests an instance has answered. */
async function answersOf(port: number): Promise<number> {
  const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  const line = /^http_request_duration_seconds_count\{(?=[^}]*route="\/api\/v1\/validate")[^}]*\} (\d+)$/m
  return Number(line.exec(metrics)?.[1] ?? 0)
}

/** Starts the proxy before the instances; what it returns sends a request through it, on a connection of its own. */
async function openProxy({ start }: Proxy, upstreams: string[]) {
  const port = await freePort()
  const child = await start({ folder: await temporaryFolder(), port, upstreams })
  cleanUp(async () => {
    child.kill()
    if (child.exitCode === null) await once(child, 'exit')
  })
  const send = (method: string, path: string, body = '', headers: Record<string, string> = {}) =>
    new Promise<Reply>((resolve, reject) => {
      const at = { host: '127.0.0.1', port, servername: 'auth.example.com', rejectUnauthorized: false, agent: false }
      const all = { host: 'auth.example.com', 'content-length': String(Buffer.byteLength(body)), ...headers }
      const sent = request({ ...at, method, path, headers: all }, (reply) => {
        reply.resume().on('end', () => resolve({ status: reply.statusCode ?? 0, headers: reply.headers }))
      })
      sent.on('error', reject).end(body)
    })
  const isUp = () =>
    send('GET', '/ready').then(
      ({ status }) => status === 200,
      () => false,
    )
  await vi.waitUntil(isUp, { timeout: 20_000, interval: 100 })
  return send
}

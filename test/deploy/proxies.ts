import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { join } from 'node:path'
import { vi } from 'vitest'
import { cleanUp } from '#test/support/clean-up.ts'
import { freePort, temporaryFolder } from '#test/support/process.ts'

interface Addresses {
  readonly folder: string
  readonly port: number
  /** Host and port of each instance. */
  readonly upstreams: readonly string[]
}

/** A proxy of deploy/ that can be started here. */
interface Proxy {
  readonly name: string
  readonly version: readonly string[]
  readonly start: (addresses: Addresses) => Promise<ChildProcess>
}

const deploy = new URL('../../deploy/', import.meta.url).pathname
/** What clients call it. */
export const site = 'auth.example.com'

/** Replaces what is there, or the file has changed. */
function replaced(file: string, changes: ReadonlyArray<readonly [string, string]>): string {
  let text = readFileSync(join(deploy, file), 'utf8')
  for (const [from, to] of changes) {
    if (!text.includes(from)) throw new Error(`${file} has no ${from}`)
    text = text.replaceAll(from, () => to)
  }
  return text
}

function makeCertificate(folder: string): { certificate: string; key: string } {
  const [certificate, key] = [join(folder, 'certificate.pem'), join(folder, 'key.pem')]
  const subject = ['-subj', `/CN=${site}`, '-days', '1', '-nodes']
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-keyout', key, '-out', certificate, ...subject], {
    stdio: 'ignore',
  })
  return { certificate, key }
}

async function startNginx({ folder, port, upstreams }: Addresses): Promise<ChildProcess> {
  const { certificate, key } = makeCertificate(folder)
  const [first = '', ...others] = upstreams
  const more = others.map((upstream) => `server ${upstream} fail_timeout=2s;`).join('')
  const server = replaced('nginx/latchkey.conf', [
    ['server 127.0.0.1:8000 fail_timeout=2s;', `server ${first} fail_timeout=2s;${more}`],
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
  const text = replaced('caddy/Caddyfile', [
    ['auth.example.com {', `https://auth.example.com:${port} {\n\ttls internal`],
    ['127.0.0.1:8000', upstreams.join(' ')],
  ])
  const own = `{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}\n${text}`
  await writeFile(join(folder, 'Caddyfile'), own)
  const options = ['run', '--config', join(folder, 'Caddyfile'), '--adapter', 'caddyfile']
  const env = { PATH: process.env['PATH'], HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder }
  return spawn('caddy', options, { env, stdio: 'ignore' })
}

async function startHaproxy({ folder, port, upstreams }: Addresses): Promise<ChildProcess> {
  const { certificate, key } = makeCertificate(folder)
  const both = join(folder, 'both.pem')
  await writeFile(both, readFileSync(certificate, 'utf8') + readFileSync(key, 'utf8'))
  const servers = upstreams.map((upstream, i) => `server s${i} ${upstream}`).join('\n  ')
  const own = replaced('haproxy/haproxy.cfg', [
    ['bind :443', `bind 127.0.0.1:${port}`],
    ['/etc/haproxy/auth.example.com.pem', both],
    ['server a 127.0.0.1:8000', servers],
  ])
  await writeFile(join(folder, 'haproxy.cfg'), own)
  return spawn('haproxy', ['-db', '-q', '-f', join(folder, 'haproxy.cfg')], { stdio: ['ignore', 'inherit', 'inherit'] })
}

/** The proxies of deploy/. */
export const nginx: Proxy = { name: 'nginx', version: ['-v'], start: startNginx }
export const caddy: Proxy = { name: 'caddy', version: ['version'], start: startCaddy }
export const haproxy: Proxy = { name: 'haproxy', version: ['-v'], start: startHaproxy }

/** Says in the output, and returns, why it cannot be tried here; `undefined` when it can. */
export function lacksProxy({ name, version }: Proxy): string | undefined {
  if (!spawnSync(name, version).error) return undefined
  console.log(`The test of ${name} is skipped: there is no ${name}.`)
  return `there is no ${name}`
}

export interface Reply {
  readonly status: number
  readonly headers: Record<string, unknown>
}

/** Sends one request to the site behind the proxy at `port`, on a connection of its own. */
export function sendTo(port: number, method: string, path: string, body = '', headers: Record<string, string> = {}) {
  return new Promise<Reply>((resolve, reject) => {
    const at = { host: '127.0.0.1', port, servername: site, rejectUnauthorized: false, agent: false }
    const all = { host: site, 'content-length': String(Buffer.byteLength(body)), ...headers }
    const sent = request({ ...at, method, path, headers: all }, (reply) => {
      reply.resume().on('end', () => resolve({ status: reply.statusCode ?? 0, headers: reply.headers }))
    })
    sent.on('error', reject).end(body)
  })
}

/** Starts the proxy in front of these instances and resolves to its port once they can be reached through it. */
export async function startProxy(proxy: Proxy, upstreams: readonly string[]): Promise<number> {
  const port = await freePort()
  const child = await proxy.start({ folder: await temporaryFolder(), port, upstreams })
  cleanUp(async () => {
    child.kill()
    if (child.exitCode === null) await once(child, 'exit')
  })
  await vi.waitUntil(
    () =>
      sendTo(port, 'GET', '/ready').then(
        ({ status }) => status === 200,
        () => false,
      ),
    { timeout: 20_000, interval: 100 },
  )
  return port
}

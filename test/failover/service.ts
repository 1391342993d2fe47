import { type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { root, start, until } from './processes.ts'

const ports = [8001, 8002] as const

/** Where clients find the service. */
export const base = 'http://127.0.0.1:8000'

/** Asks `/ready`, as the manual says a load balancer should; a request that was sent is never sent again by it. */
const balancer = `
global
  hard-stop-after 10s
defaults
  mode http
  timeout connect 1s
  timeout client 30s
  timeout server 15s
  timeout check 3s
  retries 1
  option redispatch
frontend latchkey
  bind 127.0.0.1:8000
  default_backend instances
backend instances
  option httpchk GET /ready
  http-check expect status 200
  default-server check inter 500ms fall 2 rise 1
${ports.map((port) => `  server instance-${port} 127.0.0.1:${port}`).join('\n')}
`

/** Two instances behind a load balancer. */
export class Service {
  readonly #databaseUrl: string
  readonly #instances = new Map<number, ChildProcess>()
  #balancer: ChildProcess | undefined

  constructor(databaseUrl: string) {
    this.#databaseUrl = databaseUrl
  }

  async start(): Promise<void> {
    for (const port of ports) await this.#startInstance(port)
    writeFileSync(`${root}/haproxy.cfg`, balancer)
    this.#balancer = start('haproxy', ['haproxy', '-W', '-f', `${root}/haproxy.cfg`])
    await this.ready()
  }

  /** Kills an instance and starts it again when it is gone. */
  async killInstance(): Promise<void> {
    const [port] = ports
    const instance = this.#instances.get(port)
    if (instance === undefined) throw new Error('there is no instance to kill')
    instance.kill('SIGKILL')
    await once(instance, 'close')
    await this.#startInstance(port)
  }

  /** Starts a new worker of the load balancer; the old one ends when its connections have. */
  async reloadBalancer(): Promise<void> {
    const master = this.#balancer?.pid ?? 0
    const workers = () => readFileSync(`/proc/${master}/task/${master}/children`, 'utf8').split(' ').filter(Boolean)
    const before = workers()
    this.#balancer?.kill('SIGUSR2')
    await until('a new worker of the load balancer', 30, () => {
      const after = workers()
      return after.length > 0 && !after.some((pid) => before.includes(pid))
    })
  }

  /** Waits until both instances, and the way to them, say that they are ready. */
  async ready(): Promise<void> {
    const places = [...ports.map((port) => `http://127.0.0.1:${port}`), base]
    for (const place of places)
      await until(`${place}/ready`, 60, async () => {
        const reply = await fetch(`${place}/ready`, { signal: AbortSignal.timeout(3000) }).catch(() => undefined)
        if (reply?.ok) return true
        await setTimeout(200)
        return false
      })
  }

  async #startInstance(port: number): Promise<void> {
    const env = {
      DATABASE_URL: this.#databaseUrl,
      SECRET_KEY: 'a-key-for-trials-0123456789-abcdefghijklmnop',
      PUBLIC_URL: base,
      PORT: String(port),
      DATA_DIR: `${root}/data-${port}`,
      RATE_LIMITS: 'off',
      LOG_LEVEL: 'warn',
    }
    const server = new URL('../../src/server.ts', import.meta.url).pathname
    this.#instances.set(port, start(`instance-${port}`, [process.execPath, server], env))
    await until(`an instance on port ${port}`, 60, () => fetch(`http://127.0.0.1:${port}/health`).catch(() => false))
  }
}

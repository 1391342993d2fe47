import { randomBytes } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { connectAlone } from '#src/db/connect-alone.ts'
import { cpuOf, parentOf } from './cpu.ts'
import { gateWidth } from './limits.ts'
import { benchPassword, type Load } from './load.ts'
import { freePort, runLoad, type ServiceProcess, startPostgres, startService } from './processes.ts'
import { stopEverything } from './processes.ts'
import { median, report, rowOf } from './report.ts'
import { someHeads, tokenOf, writeRows } from './rows.ts'

/** Several processes of the service on this machine against one, in turns: behind one port in two ways, and on a port each. */

const connections = 32
const connectionsEach = 5
const seconds = 2.5
/** So long each shape is warmed up for each process of it, because Node gets quicker with use. */
const warmUpSeconds = 2
const rounds = [1, 2, 3]
const routes = ['me', 'refresh', 'token'] as const
type Route = (typeof routes)[number]
/** Who logs in is nobody whose access token is measured: too many logins end the oldest session. */
const strangers = Array.from({ length: 60 }, (_, i) => `user${i + 41}`)

interface Shape {
  readonly name: string
  readonly count: number
  /** What was started, which may start others. */
  readonly processes: readonly ServiceProcess[]
}

interface Measured {
  readonly load: Load
  /** Milliseconds of processor time for a thousand answers. */
  readonly cpu: { readonly service: number; readonly postgres: number; readonly load: number }
}

for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void stopEverything().finally(() => process.exit(130)))

try {
  const started = performance.now()
  const url = await (await startPostgres())('latchkey_bench_processes')
  const sql = connectAlone(url)
  await writeRows(sql, 1000)
  let refreshTokens = (await someHeads(sql, 960)).map(tokenOf)
  const [backend] = await sql<{ pid: number }[]>`select pg_backend_pid() as pid`
  // The server is the parent of all that serve connections.
  const postgres = parentOf(backend?.pid ?? 0)
  // One key and one issuer, so that an access token of one is good for all.
  const environment = {
    SECRET_KEY: randomBytes(32).toString('hex'),
    PUBLIC_URL: 'http://127.0.0.1',
    SWEEP: 'off',
    MAIL_WORKER: 'off',
    // All shapes are there at once, within the 100 connections that Postgres has.
    DATABASE_POOL_SIZE: String(connectionsEach),
  }
  const service = (options: Parameters<typeof startService>[1] = {}) =>
    startService(url, { ...options, environment: { ...environment, ...options.environment } })
  const clustered = async (count: number) => [
    await service({ before: ['bench/cluster.ts'], environment: { PROCESSES: String(count) } }),
  ]
  const onePort = async (count: number) => {
    const port = await freePort()
    const options = { port, before: ['--import', './bench/reuse-port.ts'] }
    return Promise.all(Array.from({ length: count }, () => service(options)))
  }
  const start = async (name: string, how: Promise<ServiceProcess[]>, count: number): Promise<Shape> => ({
    name,
    count,
    processes: await how,
  })
  const one: Shape = { name: 'one', count: 1, processes: [await service()] }
  const shapes = [
    await start('2 of node:cluster', clustered(2), 2),
    await start('4 of node:cluster', clustered(4), 4),
    await start('2 with SO_REUSEPORT', onePort(2), 2),
    await start('2 on a port each', Promise.all([service(), service()]), 2),
  ]

  const accessTokens = await Promise.all(
    Array.from({ length: connections }, (_, i) => accessTokenOf(one.processes[0], `user${i + 1}`)),
  )
  const measure = async ({ processes }: Shape, route: Route, seconds: number): Promise<Measured> => {
    const items = { me: accessTokens, refresh: refreshTokens, token: strangers }[route]
    const base = processes.map((each) => each.base)
    const job = { base, route, items, connections: route === 'token' ? 4 * gateWidth() : connections }
    const now = () => ({ postgres: cpuOf(postgres), service: processes.reduce((sum, { pid }) => sum + cpuOf(pid), 0) })
    const before = now()
    const load = await runLoad({ ...job, seconds })
    const after = now()
    if (route === 'refresh') refreshTokens = load.items
    const each = (ms: number) => (ms * 1000) / load.answers
    const [ofService, ofPostgres] = [after.service - before.service, after.postgres - before.postgres]
    return { load, cpu: { service: each(ofService), postgres: each(ofPostgres), load: each(load.cpuMs) } }
  }

  const found = new Map<string, Record<Route, Measured>[]>()
  for (const shape of [one, ...shapes])
    for (const route of ['me', 'refresh'] as const) await measure(shape, route, warmUpSeconds * shape.count)
  for (const _ of rounds)
    for (const shape of [one, ...shapes]) {
      const measured = {} as Record<Route, Measured>
      for (const route of routes) measured[route] = await measure(shape, route, seconds)
      found.set(shape.name, [...(found.get(shape.name) ?? []), measured])
    }

  const of = (shape: Shape) => found.get(shape.name) ?? []
  const rows = routes.flatMap((route) =>
    shapes.map((shape) => {
      const pairs = of(shape).map((round, i) => ({
        service: round[route].load,
        limit: of(one)[i]?.[route].load.perSecond ?? NaN,
      }))
      return rowOf(`/${route}, ${shape.name} ÷ one`, pairs)
    }),
  )
  const cpu = [one, ...shapes].flatMap((shape) =>
    routes.map((route) => {
      const spent = (who: keyof Measured['cpu']) => median(of(shape).map((round) => round[route].cpu[who]))
      return { shape: shape.name, route, service: spent('service'), postgres: spent('postgres'), load: spent('load') }
    }),
  )
  const machine = { cores: availableParallelism(), node: process.version, poolSize: connectionsEach, connections }
  const secondsTaken = Math.round((performance.now() - started) / 1000)
  report(rows, { ...machine, microsecondsOfProcessorPerAnswer: cpu, secondsTaken })
} finally {
  await stopEverything()
}

async function accessTokenOf(service: ServiceProcess | undefined, username: string): Promise<string> {
  const reply = await fetch(`${service?.base}/api/v1/token`, {
    method: 'POST',
    body: new URLSearchParams({ username, password: benchPassword }),
  })
  return ((await reply.json()) as { access_token: string }).access_token
}

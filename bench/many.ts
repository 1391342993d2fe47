import { randomBytes } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { connectAlone } from '#src/db/database.ts'
import { cpuOf, parentOf } from './cpu.ts'
import { gateWidth } from './limits.ts'
import { benchPassword, type Load } from './load.ts'
import { freePort, poolSize, runLoad, type ServiceProcess, startPostgres, startService } from './processes.ts'
import { stopEverything } from './processes.ts'
import { median, report, rowOf } from './report.ts'
import { someHeads, tokenOf, writeRows } from './rows.ts'

/** Several processes of the service on this machine against one, in turns: behind one port in two ways, and on a port each. */

const connections = 32
const seconds = 2
const rounds = [1, 2, 3]
const routes = ['me', 'refresh', 'token'] as const
type Route = (typeof routes)[number]
/** Who logs in is nobody whose access token is measured: too many logins end the oldest session. */
const strangers = Array.from({ length: 60 }, (_, i) => `user${i + 41}`)

interface Shape {
  readonly name: string
  readonly start: () => Promise<ServiceProcess[]>
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
  }
  const service = (options: Parameters<typeof startService>[1] = {}) =>
    startService(url, { ...options, environment: { ...environment, ...options.environment } })
  const clustered = (count: number): Shape => ({
    name: `${count} of node:cluster`,
    start: async () => [await service({ before: ['bench/cluster.ts'], environment: { PROCESSES: String(count) } })],
  })
  const onePort = async (count: number) => {
    const port = await freePort()
    const options = { port, before: ['--import', './bench/reuse-port.ts'] }
    return Promise.all(Array.from({ length: count }, () => service(options)))
  }
  const one: Shape = { name: 'one', start: async () => [await service()] }
  const shapes: Shape[] = [
    clustered(2),
    clustered(4),
    { name: '2 with SO_REUSEPORT', start: () => onePort(2) },
    { name: '2 on a port each', start: () => Promise.all([service(), service()]) },
  ]

  const accessTokens = await withShape(one, async ([first]) =>
    Promise.all(Array.from({ length: connections }, (_, i) => accessTokenOf(first, `user${i + 1}`))),
  )
  const measure = async (processes: ServiceProcess[], route: Route): Promise<Measured> => {
    const items = { me: accessTokens, refresh: refreshTokens, token: strangers }[route]
    const base = processes.map((each) => each.base)
    const job = { base, route, items, connections: route === 'token' ? 4 * gateWidth() : connections }
    const warm = await runLoad({ ...job, seconds: route === 'token' ? 0.1 : 1 })
    if (route === 'refresh') refreshTokens = warm.items
    const now = () => ({ postgres: cpuOf(postgres), service: processes.reduce((sum, { pid }) => sum + cpuOf(pid), 0) })
    const before = now()
    const load = await runLoad({ ...job, items: route === 'refresh' ? refreshTokens : items, seconds })
    const after = now()
    if (route === 'refresh') refreshTokens = load.items
    const each = (ms: number) => (ms * 1000) / load.answers
    const [ofService, ofPostgres] = [after.service - before.service, after.postgres - before.postgres]
    return { load, cpu: { service: each(ofService), postgres: each(ofPostgres), load: each(load.cpuMs) } }
  }

  const found = new Map<string, Record<Route, Measured>[]>()
  for (const _ of rounds)
    for (const shape of [one, ...shapes])
      await withShape(shape, async (processes) => {
        const measured = {} as Record<Route, Measured>
        for (const route of routes) measured[route] = await measure(processes, route)
        found.set(shape.name, [...(found.get(shape.name) ?? []), measured])
      })

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
  const machine = { cores: availableParallelism(), node: process.version, poolSize, connections }
  const secondsTaken = Math.round((performance.now() - started) / 1000)
  report(rows, { ...machine, microsecondsOfProcessorPerAnswer: cpu, secondsTaken })
} finally {
  await stopEverything()
}

async function withShape<Result>({ start }: Shape, work: (processes: ServiceProcess[]) => Promise<Result>) {
  const processes = await start()
  try {
    return await work(processes)
  } finally {
    await Promise.all(processes.map(({ stop }) => stop()))
  }
}

async function accessTokenOf(service: ServiceProcess | undefined, username: string): Promise<string> {
  const reply = await fetch(`${service?.base}/api/v1/token`, {
    method: 'POST',
    body: new URLSearchParams({ username, password: benchPassword }),
  })
  return ((await reply.json()) as { access_token: string }).access_token
}

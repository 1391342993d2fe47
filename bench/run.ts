import { availableParallelism } from 'node:os'
import { setTimeout } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { connectAlone } from '#src/db/connect-alone.ts'
import { compareSizes } from './large.ts'
import { gateWidth } from './limits.ts'
import { benchPassword, type Load } from './load.ts'
import { runPgbench } from './pgbench.ts'
import { isInstalled, runLoad, type ServiceProcess, startLimits } from './processes.ts'
import { poolSize, startCollector, startPostgres, startService, stopEverything } from './processes.ts'
import { isMissed, median, report, type Row, rowOf } from './report.ts'
import { someHeads, tokenOf, writeRows } from './rows.ts'

const connections = 16
const seconds = 2.5
const rounds = [1, 2, 3]
const queuedLogins = 200
/** Who logs in is nobody whose access token is measured: too many logins end the oldest session. */
const strangers = usernames(80, connections + 1)

type Pair = { readonly service: Load; readonly limit: number }

const { values: flags } = parseArgs({ options: { large: { type: 'boolean' }, strict: { type: 'boolean' } } })
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void stopEverything().finally(() => process.exit(130)))

try {
  const started = performance.now()
  const { rows, ...facts } = flags.large ? await compareSizes() : await compareWithLimits()
  const machine = { cores: availableParallelism(), node: process.version, poolSize }
  report(rows, { ...machine, ...facts, secondsTaken: Math.round((performance.now() - started) / 1000) })
  if (flags.strict && rows.some(isMissed)) process.exitCode = 1
} finally {
  await stopEverything()
}

/** The service and its limits in turns, so that whatever slows the machine slows both. */
async function compareWithLimits() {
  const createDatabase = await startPostgres()
  const url = await createDatabase('latchkey_bench')
  const sql = connectAlone(url)
  await writeRows(sql, 1000)
  const heads = await someHeads(sql, 960)
  await sql.end()
  const limits = await startLimits({ url, poolSize, heads: heads.slice(480) })
  // The first start fills the caches of the file system.
  await (await startService(url)).stop()
  const service = await startService(url)

  const accessTokens = await Promise.all(usernames(connections).map((username) => accessTokenOf(service, username)))
  let refreshTokens = heads.slice(0, 480).map(tokenOf)
  const refreshBy = (connections: number) => async (base: string, duration: number) => {
    const load = await runLoad({ base, route: 'refresh', items: refreshTokens, connections, seconds: duration })
    if (base === service.base) refreshTokens = load.items
    return load
  }
  const send = (route: 'health' | 'me' | 'validate') => (base: string, duration: number) =>
    runLoad({ base, route, items: accessTokens, connections, seconds: duration })
  const inTurns = async (name: string, load: (base: string, seconds: number) => Promise<Load>, target?: number) => {
    for (const base of [service.base, limits]) await load(base, 1)
    const pairs = []
    for (const _ of rounds)
      pairs.push({ service: await load(service.base, seconds), limit: (await load(limits, seconds)).perSecond })
    return rowOf(name, pairs, target)
  }

  const rows: Row[] = [
    await inTurns('/health ÷ bare route', send('health')),
    await inTurns('/me ÷ bare SELECT', send('me'), 0.75),
    await inTurns('/validate ÷ bare SELECT', send('validate'), 0.75),
    await inTurns('/refresh ÷ bare rotation, 1 connection', refreshBy(1)),
    await inTurns('/refresh ÷ bare rotation, 4', refreshBy(4)),
    await inTurns('/refresh ÷ bare rotation, 16', refreshBy(16), 1.2),
    await inTurns('/refresh ÷ bare rotation, 64', refreshBy(64), 1.6),
    await compareTraces(url, service, accessTokens),
    ...(await compareLogins(service, limits)),
    await compareUnderLogins(service, accessTokens),
  ]
  rows.push({
    name: 'memory, MB ÷ 180',
    value: service.memory(),
    limit: 180,
    ratio: service.memory() / 180,
    target: 1,
    atMost: true,
  })
  const pgbench = isInstalled('pgbench') ? await runPgbench(url, 3) : 'not installed'
  return { rows, connections, readyMs: Math.round(service.readyMs), pgbench }
}

/** What it costs to trace every request. */
async function compareTraces(url: string, untraced: ServiceProcess, items: string[]): Promise<Row> {
  const traced = await startService(url, { environment: { OTEL_EXPORTER_OTLP_ENDPOINT: await startCollector() } })
  const ownItems = await Promise.all(usernames(connections).map((username) => accessTokenOf(traced, username)))
  const load = (one: ServiceProcess, duration: number) =>
    runLoad({ base: one.base, route: 'me', items: one === traced ? ownItems : items, connections, seconds: duration })
  for (const one of [traced, untraced]) await load(one, 1)
  const pairs: Pair[] = []
  for (const _ of rounds)
    pairs.push({ service: await load(traced, seconds), limit: (await load(untraced, seconds)).perSecond })
  await traced.stop()
  return rowOf('/me with traces ÷ without', pairs)
}

/** Logins against a bare route with the same statements, and against argon2 alone; two for each place in the gate. */
async function compareLogins(service: ServiceProcess, limits: string): Promise<Row[]> {
  const logins = { route: 'token', items: strangers, connections: 2 * gateWidth(), seconds } as const
  const routes: Pair[] = []
  const hashes: Pair[] = []
  for (const _ of rounds) {
    const load = await runLoad({ ...logins, base: service.base })
    routes.push({ service: load, limit: (await runLoad({ ...logins, base: limits })).perSecond })
    const { perSecond } = (await (await fetch(`${limits}/argon2/${seconds}`)).json()) as { perSecond: number }
    hashes.push({ service: load, limit: perSecond })
  }
  return [rowOf('/token ÷ bare login', routes, 0.92), rowOf('/token ÷ raw argon2', hashes, 0.8)]
}

/** The 99th percentile of a quiet `/me` against the same while logins queue. */
async function compareUnderLogins({ base }: ServiceProcess, items: string[]): Promise<Row> {
  const few = { base, route: 'me', items, connections: 10, rate: 200, seconds: 4 } as const
  const pairs = []
  for (const _ of rounds) {
    const quiet = await runLoad(few)
    const logins = runLoad({ base, route: 'token', items: strangers, connections: queuedLogins, seconds: 6 })
    await setTimeout(1000)
    pairs.push({ quiet: quiet.p99, queued: (await runLoad(few)).p99 })
    await logins
  }
  return {
    name: `/me p99 in ms, ${queuedLogins} logins queued ÷ quiet`,
    value: median(pairs.map(({ queued }) => queued)),
    limit: median(pairs.map(({ quiet }) => quiet)),
    ratio: median(pairs.map(({ queued, quiet }) => queued / quiet)),
    target: 10,
    atMost: true,
  }
}

async function accessTokenOf({ base }: ServiceProcess, username: string): Promise<string> {
  const reply = await fetch(`${base}/api/v1/token`, {
    method: 'POST',
    body: new URLSearchParams({ username, password: benchPassword }),
  })
  return ((await reply.json()) as { access_token: string }).access_token
}

function usernames(count: number, first = 1): string[] {
  return Array.from({ length: count }, (_, i) => `user${first + i}`)
}

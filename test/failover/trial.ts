import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { setTimeout } from 'node:timers/promises'
import { connectAlone } from '#src/db/database.ts'
import { Client } from './clients.ts'
import { Cluster } from './cluster.ts'
import { type Fault, faults, type Machines } from './faults.ts'
import { type Exchange, longestOutage, type Violations, violationsOf } from './history.ts'
import { layNetworks } from './network.ts'
import { root, until } from './processes.ts'
import { Service } from './service.ts'

const seconds = Number(process.env['FAILOVER_SECONDS'] || 300)
const wanted = (process.env['FAILOVER_FAULTS'] || faults.map(({ key }) => key).join()).split(',')
const logs = process.env['FAILOVER_LOGS']
const count = 40
/** After a fault each client has to do so much before the next, so that no fault meets the traces of the last. */
const calmRefreshes = 3

interface Row {
  readonly name: string
  readonly outageMs: number
  readonly tookMs: number
}

interface Trial {
  readonly history: Exchange[]
  readonly rows: Row[]
}

const says: Readonly<Record<keyof Violations, string>> = {
  unknown: 'tokens that were handed out and are unknown',
  reused: 'sessions ended by a reuse, though nobody stole',
  forked: 'second successors of one generation',
  refused: 'refusals (401) without a cause of the client',
  undone: 'logouts and passwords undone',
  failed: 'answers that no fault excuses (500)',
}

process.exitCode = await main().catch((error: unknown) => {
  print(`\nThe failover test broke off: ${error instanceof Error ? error.stack : String(error)}`)
  return 1
})
if (logs) cpSync(`${root}/logs`, logs, { recursive: true })
// Everything that it started ends with the first process.
process.exit()

async function main(): Promise<number> {
  const unknown = wanted.filter((key) => !faults.some((fault) => fault.key === key))
  if (unknown.length > 0) throw new Error(`no such faults: ${unknown.join()}`)
  mkdirSync(`${root}/logs`, { recursive: true })
  const cluster = new Cluster(layNetworks(3))
  await cluster.start()
  const service = new Service(cluster.url)
  await service.start()
  const machines = { cluster, service }
  print(`Three nodes, two instances, ${count} clients, ${availableParallelism()} cores.\n`)

  const chosen = faults.filter(({ key }) => wanted.includes(key))
  print('Synchronous replication')
  const first = await run(machines, 'first', chosen, seconds)
  const found = violationsOf(first.history)
  const revoked = await sessionsEndedByReuse(cluster.url)
  report(first, found)
  if (logs) writeFileSync(`${root}/logs/history.json`, JSON.stringify(first.history))

  print('\nControl: the same with asynchronous replication')
  await cluster.makeAsynchronous()
  await service.ready()
  const control = await run(machines, 'control', faults.slice(0, 1), 0)
  const lost = violationsOf(control.history)
  report(control, lost)

  const wrong = Object.values(found).flat().length + revoked
  const proof = Object.values(lost).flat().length
  if (wrong > 0) print(`\nFAILED: ${wrong} violations; sessions ended by reuse in the database: ${revoked}`)
  if (proof === 0) print('\nFAILED: the control lost nothing, so the checks prove nothing')
  if (wrong === 0 && proof > 0) print('\nNothing was lost, and the control lost something: passed')
  return wrong === 0 && proof > 0 ? 0 : 1
}

/** Lets clients work while one fault after the other happens, each once and then again until the time is over. */
async function run(machines: Machines, name: string, chosen: readonly Fault[], seconds: number): Promise<Trial> {
  const history: Exchange[] = []
  const clients = Array.from(
    { length: count },
    (_, i) => new Client(i, `${name}-${i}@example.com`, history, Math.random),
  )
  await Promise.all(clients.map((client) => client.register()))
  const stop = new AbortController()
  const running = Promise.all(clients.map((client) => client.run(stop.signal)))
  const rows: Row[] = []
  const end = performance.now() + seconds * 1000
  await calm(clients)
  for (let i = 0; i < chosen.length || performance.now() < end; i++) {
    const fault = chosen[i % chosen.length] as Fault
    const from = performance.now()
    await fault.happen(machines)
    await machines.cluster.whole()
    await machines.service.ready()
    await calm(clients)
    const to = performance.now()
    rows.push({ name: fault.name, outageMs: longestOutage(history, from, to), tookMs: to - from })
  }
  stop.abort()
  await running
  await Promise.all(clients.map((client) => client.audit()))
  return { history, rows }
}

async function calm(clients: readonly Client[]): Promise<void> {
  const before = clients.map(({ refreshes }) => refreshes)
  await until('refreshes of every client', 120, () =>
    clients.every(({ refreshes }, i) => refreshes >= (before[i] ?? 0) + calmRefreshes),
  )
  await setTimeout(0)
}

async function sessionsEndedByReuse(url: string): Promise<number> {
  const sql = connectAlone(url)
  try {
    const [row] = await sql<{ count: number }[]>`
      select count(*)::integer as count from sessions where revoke_reason = 'reuse'`
    return row?.count ?? 0
  } finally {
    await sql.end({ timeout: 1 })
  }
}

function report({ history, rows }: Trial, found: Violations): void {
  for (const { name, outageMs, tookMs } of rows)
    print(`  ${inSeconds(outageMs)} without a refresh, whole again after ${inSeconds(tookMs)}: ${name}`)
  const refreshes = history.filter(({ verb, status }) => verb === 'refresh' && status === 200).length
  const statuses = Object.entries(Object.groupBy(history, ({ status }) => status))
  const byStatus = statuses.map(([status, all]) => `${status === '0' ? 'no answer' : status} ${all?.length}`)
  print(`  ${history.length} requests (${byStatus.join(', ')}), ${refreshes} refreshes; of these`)
  for (const [key, text] of Object.entries(says)) {
    const all = found[key as keyof Violations]
    print(`  ${String(all.length).padStart(6)} ${text}`)
    if (all[0] && found === undefined) print(JSON.stringify(all[0]))
  }
}

function inSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(1).padStart(5)} s`
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

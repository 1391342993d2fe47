import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { connectAlone } from '#src/db/connect-alone.ts'
import { Client } from './clients.ts'
import { Cluster } from './cluster.ts'
import { type Fault, faults, type Machines } from './faults.ts'
import { endingsIn, type Exchange, longestOutage, type Violations, violationsOf } from './history.ts'
import { layNetworks } from './network.ts'
import { root, until } from './processes.ts'
import { Service } from './service.ts'

const seconds = Number(process.env['FAILOVER_SECONDS'] || 300)
const wanted = process.env['FAILOVER_FAULTS']?.split(',')
/** A folder that keeps the output of every process, and the histories. */
const logs = process.env['FAILOVER_LOGS']
const count = 40
/** Refreshes of every client between two faults, so that none meets the traces of the one before. */
const calmRefreshes = 3
/** The control loses something with this one: the primary goes on to acknowledge what nobody else gets. */
const controlled = 'partition'

const meanings: Readonly<Record<keyof Violations, string>> = {
  unknown: 'tokens that were handed out and are unknown',
  reused: 'refusals of a reuse, though nobody stole',
  forked: 'second successors of one generation',
  refused: 'other refusals (401) without a cause of the client',
  undone: 'logouts and passwords undone',
  failed: 'answers that no fault excuses, such as 500 or none for 10 s',
}

setTimeout(
  () => {
    print('\nThe failover test did not come to an end')
    process.exit(1)
  },
  (seconds + 1200) * 1000,
).unref()
try {
  process.exitCode = await compare()
} catch (error) {
  print(`\nThe failover test broke off: ${error instanceof Error ? error.stack : String(error)}`)
  process.exitCode = 1
}
if (logs) cpSync(`${root}/logs`, logs, { recursive: true })
// Everything that was started ends with the first process.
process.exit()

/** Tries the faults with synchronous replication and one of them without; resolves to the exit code. */
async function compare(): Promise<number> {
  const chosen = faults.filter(({ key }) => wanted?.includes(key) ?? true)
  if (wanted && wanted.length !== chosen.length) throw new Error(`faults are ${faults.map(({ key }) => key).join()}`)
  const machines = await startMachines()
  print(`Three nodes, two instances, ${count} clients, ${availableParallelism()} cores\n`)

  print('Synchronous replication:')
  const history = await tryFaults(machines, 'synchronous', chosen, seconds)
  const found = report(history)
  for (const one of Object.values(found).flat().slice(0, 10))
    print(`        ${JSON.stringify({ ...one, issued: undefined })}`)
  const wrong = Object.values(found).flat().length
  const ended = await sessionsEndedByReuse(machines.cluster.url)
  print(`  ${String(ended).padStart(5)} sessions ended by a reuse, as the database says`)

  print('\nThe control, with asynchronous replication:')
  await machines.cluster.makeAsynchronous()
  await machines.service.ready()
  const control = faults.filter(({ key }) => key === controlled)
  const { unknown, forked, undone } = report(await tryFaults(machines, 'asynchronous', control, 0))

  if (Object.values(endingsIn(history)).includes(0)) {
    print('\nFAILED: nothing was ended and tried again, so nothing could have been undone')
    return 1
  }
  return judge(wrong + ended, [unknown, forked, undone].flat().length)
}

/** Prints what comes of both runs; the exit code. */
function judge(wrong: number, lost: number): number {
  if (wrong > 0) print('\nFAILED: something was lost although replication was synchronous')
  if (lost === 0) print('\nFAILED: the control lost nothing, so nothing is proven')
  if (wrong > 0 || lost === 0) return 1
  print('\nNothing was lost, and the control shows that it would be seen')
  return 0
}

async function startMachines(): Promise<Machines> {
  mkdirSync(`${root}/logs`, { recursive: true })
  const cluster = new Cluster(layNetworks(3))
  await cluster.start()
  const service = new Service(cluster.url)
  await service.start()
  return { cluster, service }
}

/** Lets clients work while the faults happen, each once and then again until the time is over. */
async function tryFaults(
  machines: Machines,
  name: string,
  chosen: readonly Fault[],
  seconds: number,
): Promise<Exchange[]> {
  const history: Exchange[] = []
  const clients = Array.from({ length: count }, (_, i) => new Client(i, `${name}-${i}@example.com`, history))
  await Promise.all(clients.map((client) => client.register()))
  const stop = new AbortController()
  const running = Promise.all(clients.map((client) => client.run(stop.signal)))
  await calm(clients)
  const end = performance.now() + seconds * 1000
  for (let i = 0; i < chosen.length || performance.now() < end; i++)
    await happen(machines, chosen[i % chosen.length] as Fault, clients, history)
  stop.abort()
  await running
  await Promise.all(clients.map((client) => client.audit()))
  if (logs) writeFileSync(`${root}/logs/${name}.json`, JSON.stringify(history))
  return history
}

async function happen(
  { cluster, service }: Machines,
  fault: Fault,
  clients: readonly Client[],
  history: readonly Exchange[],
): Promise<void> {
  const from = performance.now()
  await fault.happen({ cluster, service })
  await cluster.whole()
  await service.ready()
  await calm(clients)
  // Patroni may have learned of the fault only meanwhile; the next one is for a cluster that has a synchronous standby.
  await cluster.whole()
  const to = performance.now()
  const outage = inSeconds(longestOutage(history, from, to))
  print(`  ${outage} without a refresh, all well after ${inSeconds(to - from)}: ${fault.name}`)
}

/** Waits until every client works as if nothing had been. */
async function calm(clients: readonly Client[]): Promise<void> {
  const before = clients.map(({ refreshes }) => refreshes)
  await until('refreshes of every client', 120, () =>
    clients.every(({ refreshes }, i) => refreshes >= (before[i] ?? 0) + calmRefreshes),
  )
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

function report(history: readonly Exchange[]): Violations {
  const byStatus = [...Map.groupBy(history, ({ status }) => status)].toSorted(([a], [b]) => a - b)
  const statuses = byStatus.map(([status, all]) => `${status || 'no answer'}: ${all.length}`)
  const refreshes = history.filter(({ verb, status }) => verb === 'refresh' && status === 200)
  print(`  ${history.length} requests (${statuses.join(', ')}), ${refreshes.length} refreshes,`)
  const { logouts, passwords, tried } = endingsIn(history)
  print(`  ${logouts} logouts, ${passwords} changes of password, ${tried} uses of what they had ended; and`)
  const found = violationsOf(history)
  for (const [name, all] of Object.entries(found) as [keyof Violations, Exchange[]][])
    print(`  ${String(all.length).padStart(5)} ${meanings[name]}`)
  return found
}

function inSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(1).padStart(5)} s`
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

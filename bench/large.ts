import { connectAlone } from '#src/db/connect-alone.ts'
import type { Load } from './load.ts'
import { runLoad, startPostgres, startService } from './processes.ts'
import { type Row, rowOf } from './report.ts'
import { someHeads, tokenOf, writeRows } from './rows.ts'

export const connections = 16
const seconds = 8
const rounds = [1, 2, 3]

/** The service on a ledger of its own. */
export interface Side {
  readonly url: string
  readonly load: (seconds: number) => Promise<Load>
  readonly facts: Record<string, unknown>
  readonly stop: () => Promise<void>
}

interface Size {
  readonly name: string
  readonly sessions: number
  /** Changes the tables before the service starts. */
  readonly prepare?: (url: string) => Promise<void>
}

/** Writes a ledger of so many sessions with five tokens each, and starts the service on it. */
export async function openSide(
  createDatabase: (name: string) => Promise<string>,
  { name, sessions, prepare = async () => {} }: Size,
): Promise<Side> {
  const url = await createDatabase(name)
  const sql = connectAlone(url)
  const started = performance.now()
  await writeRows(sql, sessions)
  await prepare(url)
  const writeSeconds = Math.round((performance.now() - started) / 1000)
  const [size] = await sql<{ text: string }[]>`select pg_size_pretty(pg_database_size(current_database())) as text`
  let items = (await someHeads(sql, 50_000)).map(tokenOf)
  await sql.end()
  const { base, stop } = await startService(url)
  const load = async (seconds: number) => {
    const result = await runLoad({ base, route: 'refresh', items, connections, seconds })
    items = result.items
    return result
  }
  return { url, load, facts: { sessions, size: size?.text, writeSeconds }, stop }
}

/** `/refresh` on one ledger and on another in turns, on the same Postgres. */
export async function compareSides(name: string, side: Side, against: Side, target?: number): Promise<Row> {
  for (const { load } of [side, against]) await load(seconds)
  const pairs = []
  for (const _ of rounds)
    pairs.push({ service: await side.load(seconds), limit: (await against.load(seconds)).perSecond })
  return rowOf(name, pairs, target)
}

/** `/refresh` with a million sessions and five million tokens against a thousand. */
export async function compareSizes() {
  const createDatabase = await startPostgres()
  const small = await openSide(createDatabase, { name: 'latchkey_bench_small', sessions: 1000 })
  const large = await openSide(createDatabase, { name: 'latchkey_bench_large', sessions: 1_000_000 })
  const row = await compareSides('/refresh, a million sessions ÷ a thousand', large, small, 0.85)
  return { rows: [row], connections, databases: [small.facts, large.facts] }
}

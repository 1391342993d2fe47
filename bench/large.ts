import { connectAlone } from '#src/db/connect-alone.ts'
import { runLoad, startPostgres, startService } from './processes.ts'
import { rowOf } from './report.ts'
import { someHeads, tokenOf, writeRows } from './rows.ts'

const connections = 16
const seconds = 8
const rounds = [1, 2, 3]

/** `/refresh` with a million sessions and five million tokens against a thousand, in turns on the same Postgres. */
export async function compareSizes() {
  const createDatabase = await startPostgres()
  const side = async (name: string, sessions: number) => {
    const url = await createDatabase(name)
    const sql = connectAlone(url)
    const started = performance.now()
    await writeRows(sql, sessions)
    const writeSeconds = Math.round((performance.now() - started) / 1000)
    const [size] = await sql<{ text: string }[]>`select pg_size_pretty(pg_database_size(current_database())) as text`
    let items = (await someHeads(sql, 50_000)).map(tokenOf)
    await sql.end()
    const { base } = await startService(url)
    const load = async (seconds: number) => {
      const result = await runLoad({ base, route: 'refresh', items, connections, seconds })
      items = result.items
      return result
    }
    return { load, facts: { sessions, size: size?.text, writeSeconds } }
  }
  const small = await side('latchkey_bench_small', 1000)
  const large = await side('latchkey_bench_large', 1_000_000)

  for (const { load } of [large, small]) await load(seconds)
  const pairs = []
  for (const _ of rounds)
    pairs.push({ service: await large.load(seconds), limit: (await small.load(seconds)).perSecond })
  return {
    rows: [rowOf('/refresh, a million sessions ÷ a thousand', pairs, 0.85)],
    connections,
    databases: [small.facts, large.facts],
  }
}

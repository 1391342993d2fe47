import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { connectAlone } from '#src/db/connect-alone.ts'
import { compareSides, connections, openSide, type Side } from './large.ts'
import { partitionTokens } from './partitions.ts'
import { poolSize, startPostgres, stopEverything } from './processes.ts'
import { report, type Row } from './report.ts'
import { measureSweep } from './sweeping.ts'
import { liveWeeks } from './week.ts'

const sizes = [200_000, 1_000_000, 5_000_000]
const tokensPerSession = 5
const weekSessions = 5_000
/** For comparison: this many hash partitions, and the sessions of either side. */
const partitions = { count: 16, sessions: 600_000 }

const { positionals: parts, values: flags } = parseArgs({
  allowPositionals: true,
  options: { sessions: { type: 'string', multiple: true }, week: { type: 'string' } },
})
const isAsked = (part: string) => parts.length === 0 || parts.includes(part)
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void stopEverything().finally(() => process.exit(130)))

try {
  const started = performance.now()
  const createDatabase = await startPostgres()
  const rows: Row[] = []
  const facts: Record<string, unknown> = { settings: await settingsOf(createDatabase) }
  if (isAsked('sizes')) {
    const { databases, ...found } = await compareAll(createDatabase)
    rows.push(...found.rows)
    facts['databases'] = databases
  }
  if (parts.includes('partitions')) {
    const { databases, ...found } = await comparePartitions(createDatabase)
    rows.push(...found.rows)
    facts['databases'] = databases
  }
  if (isAsked('weeks')) {
    const sessions = Number(flags.week ?? weekSessions)
    // As autovacuum comes, and ten times as often.
    const weeks = []
    for (const scaleFactor of [0.2, 0.02]) weeks.push(await liveWeeks(createDatabase, { sessions, scaleFactor }))
    facts['weeks'] = weeks
  }
  const machine = { cores: availableParallelism(), node: process.version, poolSize, connections }
  report(rows, { ...machine, ...facts, secondsTaken: Math.round((performance.now() - started) / 1000) })
} finally {
  await stopEverything()
}

/** Each ledger against a small one, and its sweep against its refreshes. */
async function compareAll(createDatabase: (name: string) => Promise<string>) {
  const small = await openSide(createDatabase, { name: 'latchkey_bench_small', sessions: 1000 })
  const rows: Row[] = []
  const databases: object[] = []
  for (const sessions of flags.sessions?.map(Number) ?? sizes) {
    const tokens = (sessions * tokensPerSession) / 1e6
    const side = await openSide(createDatabase, { name: `latchkey_bench_${sessions}`, sessions })
    rows.push(await compareSides(`/refresh, ${tokens} million tokens ÷ 5,000`, side, small))
    const swept = await sweepRows(side, `${tokens} million`)
    rows.push(...swept.rows)
    databases.push(swept.facts)
    await side.stop()
  }
  return { rows, databases }
}

/** One ledger in hash partitions by session against the same in one table. */
async function comparePartitions(createDatabase: (name: string) => Promise<string>) {
  const { count, sessions } = partitions
  const plain = await openSide(createDatabase, { name: 'latchkey_bench_plain', sessions })
  const prepare = partitionTokens(count)
  const parted = await openSide(createDatabase, { name: 'latchkey_bench_parted', sessions, prepare })
  const row = await compareSides(`/refresh, ${count} partitions ÷ one table`, parted, plain)
  const [ofPlain, ofParted] = [await sweepRows(plain, 'one table'), await sweepRows(parted, `${count} partitions`)]
  return { rows: [row, ...ofPlain.rows, ...ofParted.rows], databases: [ofPlain.facts, ofParted.facts] }
}

async function sweepRows(side: Side, name: string) {
  const swept = await measureSweep(side)
  const rows = [
    ratioRow(`swept ÷ refreshed, each alone, ${name}`, swept.sweptAlone, swept.refreshedAlone),
    ratioRow(`swept ÷ refreshed, at once, ${name}`, swept.sweptBeside, swept.refreshedBeside),
    ratioRow(`/refresh beside the sweep ÷ alone, ${name}`, swept.refreshedBeside, swept.refreshedAlone),
  ]
  return { rows, facts: { ...side.facts, ...swept, places: await placesOf(side.url) } }
}

function ratioRow(name: string, value: number, limit: number): Row {
  return { name, value, limit, ratio: value / limit }
}

/** MB of the ledger and its indexes, all partitions together. */
async function placesOf(url: string) {
  const sql = connectAlone(url)
  const rows = await sql`
    select regexp_replace(relname, '_[0-9]+', '') as name, round(sum(pg_relation_size(oid)) / 1e6)::integer as "MB" from pg_class
    where relname ~ '^(refresh_tokens|sessions)' and relkind in ('r', 'i') group by 1 order by 1`
  await sql.end()
  return Object.fromEntries(rows.map(({ name, MB }) => [name, MB]))
}

async function settingsOf(createDatabase: (name: string) => Promise<string>) {
  const sql = connectAlone(await createDatabase('latchkey_bench_settings'))
  const rows = await sql`
    select name, current_setting(name) as value from pg_settings
    where name in ('server_version', 'fsync', 'shared_buffers', 'max_wal_size', 'autovacuum') order by 1`
  await sql.end()
  return Object.fromEntries(rows.map(({ name, value }) => [name, value]))
}

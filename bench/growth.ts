import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { connectAlone } from '#src/db/database.ts'
import { compareSides, connections, openSide } from './large.ts'
import { partitionTokens } from './partitions.ts'
import { poolSize, startPostgres, stopEverything } from './processes.ts'
import { report, type Row } from './report.ts'
import { measureSweep } from './sweeping.ts'
import { liveWeeks } from './week.ts'

const sizes = [200_000, 1_000_000, 5_000_000]
const tokensPerSession = 5
const weekSessions = 5_000

const { positionals: parts, values: flags } = parseArgs({
  allowPositionals: true,
  options: { sessions: { type: 'string', multiple: true }, partitions: { type: 'string' }, week: { type: 'string' } },
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
    const prepare = flags.partitions ? partitionTokens(Number(flags.partitions)) : undefined
    const side = await openSide(createDatabase, {
      name: `latchkey_bench_${sessions}`,
      sessions,
      ...(prepare ? { prepare } : {}),
    })
    rows.push(await compareSides(`/refresh, ${tokens} million tokens ÷ 5,000`, side, small))
    const swept = await measureSweep(side)
    rows.push(
      ratioRow(`swept ÷ refreshed, each alone, ${tokens} million`, swept.sweptAlone, swept.refreshedAlone),
      ratioRow(`swept ÷ refreshed, at once, ${tokens} million`, swept.sweptBeside, swept.refreshedBeside),
      ratioRow(`/refresh beside the sweep ÷ alone, ${tokens} million`, swept.refreshedBeside, swept.refreshedAlone),
    )
    databases.push({ ...side.facts, ...swept, places: await placesOf(side.url) })
    await side.stop()
  }
  return { rows, databases }
}

function ratioRow(name: string, value: number, limit: number): Row {
  return { name, value, limit, ratio: value / limit }
}

/** MB of the ledger and its indexes. */
async function placesOf(url: string) {
  const sql = connectAlone(url)
  const rows = await sql`
    select relname as name, round(pg_relation_size(oid) / 1e6)::integer as "MB" from pg_class
    where relname ~ '^(refresh_tokens|sessions)' and relkind in ('r', 'i') order by 1`
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

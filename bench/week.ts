import type postgres from 'postgres'
import { connectAlone } from '#src/db/connect-alone.ts'
import { writeRows } from './rows.ts'
import { sweepFor } from './sweeping.ts'

/** Access tokens of half an hour, used for eight hours. */
const refreshesPerDay = 16
const sweepEvery = 4
const retentionDays = 7
/** A week to fill the ledger, and three to see it stand. */
const simulatedDays = 28
/** Of 15 sessions one ends each day, and another begins. */
const lifeDays = 15

/** What a table takes: bytes, and how much of it is dead or empty. */
interface Place {
  readonly name: string
  readonly bytes: number
}

/**
 * Lives through four weeks of a ledger: every session refreshes 16 times a day in an order of its own, some end and
 * others begin, the service's own sweep runs, and so does vacuum whenever autovacuum would. The days lie behind us:
 * instead of moving rows, the retention counts from the day that is lived through.
 */
export async function liveWeeks(
  createDatabase: (name: string) => Promise<string>,
  { sessions, scaleFactor }: { sessions: number; scaleFactor: number },
) {
  const endedPerDay = Math.round(sessions / lifeDays)
  const url = await createDatabase(`latchkey_bench_week_${scaleFactor * 100}`)
  const sql = connectAlone(url)
  await sql`set synchronous_commit = off`
  await writeRows(sql, sessions)
  await sql`create extension pgstattuple`
  await sql`truncate refresh_tokens, sessions`
  for (const table of tables) await sql.unsafe(`alter table ${table} set (autovacuum_enabled = off)`)
  await sql.unsafe(openSessions(sessions / 10))
  await sql.unsafe(refreshAll)
  await sql.unsafe(`call open_sessions(${sessions}, now() - interval '${simulatedDays} days')`)

  const vacuums = { refresh_tokens: 0, sessions: 0 }
  const weeks: object[] = []
  let swept = 0
  for (let day = 0; day < simulatedDays; day++) {
    for (let turn = 0; turn < refreshesPerDay; turn++) {
      const ago = simulatedDays - day - turn / refreshesPerDay
      await sql.unsafe(`call refresh_all(now() - interval '${ago} days')`)
      if (turn % sweepEvery === 0) {
        const { faults } = await sweepFor(url, { days: retentionDays + Math.ceil(ago), seconds: 600 })
        if (faults.length > 0) throw new Error(faults.join())
        swept++
      }
      for (const table of tables) if (await vacuumIfDue(sql, table, scaleFactor)) vacuums[table]++
    }
    await sql`
      update sessions set revoked_at = now() - make_interval(days => ${simulatedDays - day - 1}::integer), revoke_reason = 'logout'
      where id in (select id from sessions where revoked_at is null order by random() limit ${endedPerDay}::integer)`
    await sql.unsafe(`call open_sessions(${endedPerDay}, now() - interval '${simulatedDays - day - 1} days')`)
    if (day % 7 === 6) weeks.push(await measure(sql))
  }
  const [hot] = await sql<{ share: number }[]>`
    select n_tup_hot_upd::float8 / nullif(n_tup_upd, 0) as share from pg_stat_user_tables where relname = 'sessions'`
  const before = await places(sql)
  for (const table of tables) await sql.unsafe(`vacuum full ${table}`)
  const after = await places(sql)
  const ratios = before.map(({ name, bytes }, i) => ({
    name,
    MB: bytes / 1e6,
    times: bytes / (after[i]?.bytes ?? NaN),
  }))
  await sql.end()
  return { scaleFactor, sessions, swept, vacuums, hotUpdates: hot?.share, weeks, againstFull: ratios }
}

const tables = ['refresh_tokens', 'sessions'] as const

/** With the thresholds of autovacuum (PostgreSQL §24.1.6), which itself would not come as often as these days pass. */
async function vacuumIfDue(sql: postgres.Sql, table: string, scaleFactor: number): Promise<boolean> {
  await sql`select pg_stat_force_next_flush()`
  await sql`select pg_stat_clear_snapshot()`
  const [row] = await sql<{ due: boolean }[]>`
    select s.n_dead_tup > 50 + ${scaleFactor}::float8 * greatest(c.reltuples, 0)
      or s.n_ins_since_vacuum > 1000 + 0.2 * greatest(c.reltuples, 0) as due
    from pg_stat_user_tables s join pg_class c on c.oid = s.relid where s.relname = ${table}`
  if (row?.due) await sql.unsafe(`vacuum (analyze) ${table}`)
  return row?.due ?? false
}

async function measure(sql: postgres.Sql) {
  const result = []
  for (const table of tables) {
    const [row] = await sql`
      select tuple_count::float8 as rows, dead_tuple_count::float8 as dead, (table_len / 1e6)::float8 as "heapMB", free_percent as "freePercent"
      from pgstattuple(${table}::text)`
    result.push({ table, ...row })
  }
  const indexes = await sql`
    select indexrelid::regclass::text as index, (index_size / 1e6)::float8 as "MB", avg_leaf_density as "leafDensity",
      (empty_pages + deleted_pages)::float8 / greatest(index_size / 8192, 1) as "emptyShare"
    from pg_index, pgstatindex(indexrelid::regclass::text)
    where indrelid in ('refresh_tokens'::regclass, 'sessions'::regclass) order by 1`
  return { tables: result, indexes }
}

async function places(sql: postgres.Sql): Promise<Place[]> {
  return sql<Place[]>`
    select relname as name, pg_relation_size(oid)::float8 as bytes from pg_class
    where oid in ('refresh_tokens'::regclass, 'sessions'::regclass)
      or oid in (select indexrelid from pg_index where indrelid in ('refresh_tokens'::regclass, 'sessions'::regclass))
    order by 1`
}

const openSessions = (users: number) => `
  create procedure open_sessions(how_many integer, at timestamptz) language sql begin atomic
    with opened as (
      insert into sessions (id, user_id, epoch, created_at, expires_at, ip, user_agent)
      select overlay(overlay(lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || substr(md5(random()::text), 1, 20)
          placing '7' from 13) placing '8' from 17)::uuid,
        1 + floor(random() * ${users})::integer, 0, at, at + interval '30 days', '192.0.2.1',
        'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0'
      from generate_series(1, how_many) returning id
    )
    insert into refresh_tokens (session_id, generation, digest, issued_at, expires_at)
    select id, 0, sha256(id::text::bytea), at, at + interval '7 days' from opened;
  end`

/** As the service does it when it is busy: many in one statement, each statement by itself. */
const refreshAll = `
  create procedure refresh_all(at timestamptz) language plpgsql as $$
  declare ids uuid[]; begun timestamptz := clock_timestamp();
  begin
    for ids in
      select array_agg(id) from (
        select id, row_number() over (order by random()) / 50 as turn from sessions where revoked_at is null
      ) s group by turn
    loop
      with head as (
        update sessions set generation = generation + 1, successor_salt = sha256(random()::text::bytea), refreshed_at = at
        where id = any(ids) returning id, generation
      )
      insert into refresh_tokens (session_id, generation, digest, issued_at, expires_at)
      select id, generation, sha256((id || '.' || generation)::bytea), at + (clock_timestamp() - begun), at + interval '7 days'
      from head;
      commit;
    end loop;
  end $$`

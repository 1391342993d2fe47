import { type SQL, sql } from 'drizzle-orm/sql'
import type postgres from 'postgres'
import { type Origin, recorded, recordEvent } from '#src/features/audit/audit.sql.ts'
import { connectAlone, type Statement, statement, valuesOf } from '#src/db/database.ts'
import { filled, lacking } from './existing-users.sql.ts'
import { DatabaseError } from '#src/db/faults.ts'
import { users } from '#src/db/schema.ts'

/** A user as a file brings them; `n` tells them from the others of the batch. */
export interface BroughtUser {
  readonly n: number
  readonly email: string | null
  readonly username: string | null
  readonly full_name: string | null
  readonly roles: readonly string[]
  readonly is_active: boolean
  readonly email_verified: boolean
  readonly password_hash: string | null
  /** ISO 8601; null for now. */
  readonly created_at: string | null
}

const batch = sql`
  batch as materialized (
    select * from json_to_recordset(${sql.placeholder('rows')}::text::json) as r (
      n integer, email text, username text, full_name text, roles text[], is_active boolean, email_verified boolean,
      password_hash text, created_at timestamptz
    )
  )`

/** Inserts a batch in its order and passes over what is taken, also by an earlier row of the batch. */
const inserted = (table: SQL, from: SQL): SQL => sql`
  created as (
    insert into ${table} (email, username, full_name, roles, is_active, email_verified_at, password_hash, created_at)
    select email, username, full_name, roles, is_active, case when email_verified then now() end, password_hash,
      coalesce(created_at, now())
    from ${from} order by n
    on conflict do nothing returning id, email, username
  )`

interface LeftOver {
  readonly n: number
  /** Whether the account that is there got what it lacked. */
  readonly filled: boolean
  readonly withHash: boolean
}

/** The rows that made no account; `filling` has those whose account was filled in. */
const leftOver = (filling: SQL | undefined): SQL => sql`
  select b.n, f.n is not null as filled, coalesce(f.with_hash, false) as "withHash"
  from batch b left join ${filling ?? sql`(select null::integer as n, false as with_hash where false) f`} on f.n = b.n
  where not exists (
    select from created c
    where coalesce(c.email, '') = coalesce(b.email, '') and coalesce(c.username, '') = coalesce(b.username, '')
  )`

type Import = { rows: string; userAgent: string; ip: null; requestId: null }

const imported = sql`with ${batch}, ${inserted(sql`${users}`, sql`batch`)}, audited as (
    ${recorded({ type: 'user.imported', userId: sql`created.id`, from: sql`created` })}
  )`
const importBatch = statement<Import, LeftOver>(sql`${imported} ${leftOver(undefined)}`)
/** As `importBatch`, and fills in what accounts lack that are there already. */
const updateBatch = statement<Import, LeftOver>(sql`${imported}, ${lacking}, ${filled}, audited_too as (
    ${recorded({ type: 'user.updated', userId: sql`filled.id`, detail: sql`jsonb_build_object('fields', filled.fields)`, from: sql`filled` })}
  ) ${leftOver(sql`filled f`)}`)

const trial = sql.identifier('import_trial')
const tried = sql`with ${batch}, free as (
    select * from batch b
    where not exists (select from ${users} u where lower(u.email collate "C") = lower(b.email collate "C"))
      and not exists (select from ${users} u where lower(u.username collate "C") = lower(b.username collate "C"))
  ), ${inserted(sql`${trial}`, sql`free`)}`
/** As `importBatch`, into a table that goes when the connection does. */
const tryBatch = statement<{ rows: string }, LeftOver>(sql`${tried} ${leftOver(undefined)}`)
const tryUpdate = statement<{ rows: string }, LeftOver>(
  sql`${tried}, ${lacking} ${leftOver(sql`(select n, password_hash is not null as with_hash from wanting) f`)}`,
)

interface BulkOptions {
  readonly dryRun: boolean
  /** Fills in what accounts lack that are there already. */
  readonly update: boolean
}

/** Many users at a time on a connection of its own; each batch is one statement, in whole or not at all. */
export class BulkImport {
  readonly #connection: postgres.Sql
  readonly #options: BulkOptions

  private constructor(connection: postgres.Sql, options: BulkOptions) {
    this.#connection = connection
    this.#options = options
  }

  static async open(url: string, options: BulkOptions): Promise<BulkImport> {
    const connection = connectAlone(url)
    if (options.dryRun) await connection.unsafe('create temporary table import_trial (like users including all)')
    return new BulkImport(connection, options)
  }

  /** Resolves, by their `n`, to those that made no account because somebody has the address or the username. */
  async insert(rows: readonly BroughtUser[], userAgent: string): Promise<Map<number, LeftOver>> {
    const { dryRun, update } = this.#options
    const input = { rows: JSON.stringify(rows), userAgent, ip: null, requestId: null }
    const rowsLeft = dryRun
      ? await run(this.#connection, update ? tryUpdate : tryBatch, input)
      : await run(this.#connection, update ? updateBatch : importBatch, input)
    return new Map(rowsLeft.map((row) => [row.n, row]))
  }

  async close(): Promise<void> {
    await this.#connection.end({ timeout: 1 })
  }
}

const pageSize = 5000
const exportPage = statement<{ after: number }, { id: number; line: string }>(sql`
  select id, json_build_object(
    'id', id, 'email', email, 'username', username, 'full_name', full_name, 'roles', roles, 'is_active', is_active,
    'email_verified', email_verified_at is not null,
    'created_at', to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'password_hash', password_hash
  )::text as line
  from ${users} where id > ${sql.placeholder('after')}::integer and deleted_at is null order by id limit ${sql.raw(String(pageSize))}`)

/** Every user as JSON lines, page by page, after an event that says so; who is registered meanwhile may be missing. */
export async function* exportLines(url: string, origin: Origin): AsyncGenerator<string, void, undefined> {
  const connection = connectAlone(url)
  try {
    await run(connection, recordEvent, { ...origin, type: 'users.exported', userId: null, actorId: null, detail: null })
    for (let after = 0; ;) {
      const page = await run(connection, exportPage, { after })
      if (page.length > 0) yield page.map(({ line }) => `${line}\n`).join('')
      if (page.length < pageSize) return
      after = page.at(-1)?.id ?? after
    }
  } finally {
    await connection.end({ timeout: 1 })
  }
}

/** Far more than a batch takes; the driver by itself would wait for ever. */
const patienceMs = 60_000

async function run<Input extends Record<string, unknown>, Row>(
  connection: postgres.Sql,
  query: Statement<Input, Row>,
  input: Input,
): Promise<Row[]> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(new DatabaseError('DEADLINE_PASSED')), patienceMs)
  try {
    const answer = connection.unsafe(query.text, valuesOf(query, input), { prepare: true })
    return (await Promise.race([answer, late.promise])) as unknown as Row[]
  } finally {
    clearTimeout(timer)
  }
}

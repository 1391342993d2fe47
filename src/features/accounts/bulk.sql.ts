import { type SQL, sql } from 'drizzle-orm/sql'
import { insertEvent } from '#src/features/audit/audit.sql.ts'
import { type Parameters, statement } from '#src/db/statement.ts'
import { findExistingUsers, updateExistingUsers } from './existing-users.sql.ts'
import { users } from '#src/db/schema.ts'

const batch = ($: Parameters<{ rows: string }>) => sql`
  batch as materialized (
    select * from json_to_recordset(${$.rows}::text::json) as r (
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

export interface LeftOver {
  readonly n: number
  /** Whether the account that is there got what it lacked. */
  readonly filled: boolean
  readonly withHash: boolean
}
const leftOverTypes = { n: 'int4', filled: 'bool', withHash: 'bool' } as const

/** The rows that made no account; `filling` has those whose account was filled in. */
const leftOver = (filling: SQL | undefined): SQL => sql`
  select b.n, f.n is not null as filled, coalesce(f.with_hash, false) as "withHash"
  from batch b left join ${filling ?? sql`(select null::integer as n, false as with_hash where false) f`} on f.n = b.n
  where not exists (
    select from created c
    where coalesce(c.email, '') = coalesce(b.email, '') and coalesce(c.username, '') = coalesce(b.username, '')
  )`

type Import = { rows: string; userAgent: string; ip: null; requestId: null }

const imported = ($: Parameters<Import>) => sql`with ${batch($)}, ${inserted(sql`${users}`, sql`batch`)}, audited as (
    ${insertEvent($, { type: 'user.imported', userId: sql`created.id`, from: sql`created` })}
  )`
/** Inserts a batch; returns the rows that made no account. */
export const importBatch = statement<Import, LeftOver>(($) => sql`${imported($)} ${leftOver(undefined)}`, leftOverTypes)
/** As `importBatch`, and fills in what accounts lack that are there already. */
export const updateBatch = statement<Import, LeftOver>(
  ($) => sql`${imported($)}, ${findExistingUsers}, ${updateExistingUsers}, audited_too as (
    ${insertEvent($, { type: 'user.updated', userId: sql`filled.id`, detail: sql`jsonb_build_object('fields', filled.fields)`, from: sql`filled` })}
  ) ${leftOver(sql`filled f`)}`,
  leftOverTypes,
)

const trial = sql.identifier('import_trial')
const tried = ($: Parameters<{ rows: string }>) => sql`with ${batch($)}, free as (
    select * from batch b
    where not exists (select from ${users} u where lower(u.email collate "C") = lower(b.email collate "C"))
      and not exists (select from ${users} u where lower(u.username collate "C") = lower(b.username collate "C"))
  ), ${inserted(sql`${trial}`, sql`free`)}`
/** As `importBatch`, into a table that goes when the connection does. */
export const tryBatch = statement<{ rows: string }, LeftOver>(
  ($) => sql`${tried($)} ${leftOver(undefined)}`,
  leftOverTypes,
)
/** As `updateBatch`, and changes nothing. */
export const tryUpdate = statement<{ rows: string }, LeftOver>(
  ($) =>
    sql`${tried($)}, ${findExistingUsers} ${leftOver(sql`(select n, password_hash is not null as with_hash from wanting) f`)}`,
  leftOverTypes,
)

/** Users of one page of an export. */
export const pageSize = 5000

/** The next page of all users, each a line of JSON. */
export const exportPage = statement<{ after: number }, { id: number; line: string }>(
  ($) => sql`
  select id, json_build_object(
    'id', id, 'email', email, 'username', username, 'full_name', full_name, 'roles', roles, 'is_active', is_active,
    'email_verified', email_verified_at is not null,
    'created_at', to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'password_hash', password_hash
  )::text as line
  from ${users} where id > ${$.after}::integer and deleted_at is null order by id limit ${sql.raw(String(pageSize))}`,
  { id: 'int4', line: 'text' },
)

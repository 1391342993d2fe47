import { sql } from 'drizzle-orm/sql'
import { type NoInput, statement } from '#src/db/statement.ts'
import { authSessions, users } from '#src/db/schema.ts'

/** Of one user and one kind; whoever begins one more loses the one that ends first. */
const mostOfUser = 5

/** Stores what was begun. */
export const insertPending = statement<
  { digest: Buffer; kind: string; userId: number | null; data: Buffer; tries: number; seconds: number },
  never
>(
  ($) => sql`
  with excess as (
    select digest from ${authSessions}
    where user_id = ${$.userId}::integer and kind = ${$.kind}::text
    order by expires_at desc offset ${sql.raw(String(mostOfUser - 1))}
  ), gone as (
    delete from ${authSessions} a using excess where a.digest = excess.digest
  )
  insert into ${authSessions} (digest, kind, user_id, epoch, data, tries_left, expires_at)
  select ${$.digest}::bytea, ${$.kind}::text, u.id, u.session_epoch, ${$.data}::bytea, ${$.tries}::integer,
    now() + make_interval(secs => ${$.seconds}::integer)
  from (values (1)) one left join ${users} u on u.id = ${$.userId}::integer`,
  {},
)

export interface PendingRow {
  readonly userId: number | null
  readonly data: Buffer
}

/** Whoever was known when it was begun may have been shut out since, or have another password. */
const stillStands = sql`(a.user_id is null or exists (
    select from ${users} u where u.id = a.user_id and u.is_active and u.session_epoch = a.epoch
  ))`

/** Spends a try; no row when it is unknown, past its end, or without tries. */
export const spendTry = statement<{ digest: Buffer; kind: string }, PendingRow>(
  ($) => sql`
  update ${authSessions} a set tries_left = tries_left - 1
  where digest = ${$.digest} and kind = ${$.kind} and tries_left > 0 and expires_at > clock_timestamp()
    and ${stillStands}
  returning user_id as "userId", data`,
  { userId: 'int4', data: 'bytea' },
)

/** Ends it; of any number at once one gets the row. */
export const takePending = statement<{ digest: Buffer; kind: string }, PendingRow>(
  ($) => sql`
  delete from ${authSessions} a
  where digest = ${$.digest} and kind = ${$.kind} and expires_at > clock_timestamp()
    and ${stillStands}
  returning user_id as "userId", data`,
  { userId: 'int4', data: 'bytea' },
)

/** Deletes up to 1,000 that are past their end. */
export const sweepPending = statement<NoInput, { deleted: number }>(
  () => sql`
  with batch as (
    select digest from ${authSessions} where expires_at < now() limit 1000 for update skip locked
  ), gone as (
    delete from ${authSessions} a using batch where a.digest = batch.digest returning 1
  )
  select count(*)::integer as deleted from gone`,
  { deleted: 'int4' },
)

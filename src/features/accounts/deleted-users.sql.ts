import { type SQL, sql } from 'drizzle-orm/sql'
import { type NoInput, statement } from '#src/db/statement.ts'
import { auditEvents, outbox, refreshTokens, sessions, users } from '#src/db/schema.ts'

/** Up to 1,000 rows for each deleted user, found by an index, and 1,000 in all. */
const ofDeletedUsers = (columns: SQL, rows: SQL): SQL => sql`
  select ${columns} from ${users} u cross join lateral (${rows} limit 1000 for update skip locked) r
  where u.deleted_at is not null limit 1000`

/** Deletes up to 1,000 refresh tokens of deleted users: before their sessions, which would take them along all at once. */
export const sweepTokensOfDeleted = statement<NoInput, { deleted: number }>(
  () => sql`
  with batch as (
    ${ofDeletedUsers(
      sql`r.session_id, r.generation`,
      sql`select t.session_id, t.generation from ${sessions} s join ${refreshTokens} t on t.session_id = s.id where s.user_id = u.id`,
    )}
  ), gone as (
    delete from ${refreshTokens} t using batch
    where t.session_id = batch.session_id and t.generation = batch.generation returning 1
  )
  select count(*)::integer as deleted from gone`,
  { deleted: 'int4' },
)

/** Deletes up to 1,000 sessions of deleted users. */
export const sweepSessionsOfDeleted = statement<NoInput, { deleted: number }>(
  () => sql`
  with batch as (
    ${ofDeletedUsers(
      sql`r.id`,
      sql`select s.id from ${sessions} s where s.user_id = u.id
        and not exists (select from ${refreshTokens} t where t.session_id = s.id)`,
    )}
  ), gone as (
    delete from ${sessions} s using batch where s.id = batch.id returning 1
  )
  select count(*)::integer as deleted from gone`,
  { deleted: 'int4' },
)

/** Deletes up to 1,000 events of deleted users, all but that they were deleted. */
export const sweepEventsOfDeleted = statement<NoInput, { deleted: number }>(
  () => sql`
  with batch as (
    ${ofDeletedUsers(
      sql`r.id`,
      sql`select e.id from ${auditEvents} e where e.user_id = u.id and e.type <> 'user.deleted'`,
    )}
  ), gone as (
    delete from ${auditEvents} e using batch where e.id = batch.id returning 1
  )
  select count(*)::integer as deleted from gone`,
  { deleted: 'int4' },
)

/** Deletes up to 1,000 mails of deleted users. */
export const sweepMailsOfDeleted = statement<NoInput, { deleted: number }>(
  () => sql`
  with batch as (
    ${ofDeletedUsers(sql`r.id`, sql`select m.id from ${outbox} m where m.user_id = u.id`)}
  ), gone as (
    delete from ${outbox} m using batch where m.id = batch.id returning 1
  )
  select count(*)::integer as deleted from gone`,
  { deleted: 'int4' },
)

/** Deletes up to 1,000 rows of deleted users of whom nothing else is left. */
export const sweepDeletedUsers = statement<NoInput, { deleted: number }>(
  () => sql`
  with batch as (
    select u.id from ${users} u
    where u.deleted_at is not null
      and not exists (select from ${sessions} s where s.user_id = u.id)
      and not exists (select from ${outbox} m where m.user_id = u.id)
      and not exists (select from ${auditEvents} e where e.user_id = u.id and e.type <> 'user.deleted')
    limit 1000 for update skip locked
  ), gone as (
    delete from ${users} u using batch where u.id = batch.id returning 1
  )
  select count(*)::integer as deleted from gone`,
  { deleted: 'int4' },
)

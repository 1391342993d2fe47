import { sql } from 'drizzle-orm/sql'
import { refreshTokens, sessions, users } from '#src/db/schema.ts'
import { type NoInput, statement } from '#src/db/statement.ts'

/** Marks up to 1,000 sessions that ended with the epoch of their user. */
export const markEndedSessions = statement<NoInput, { marked: number }>(
  () => sql`
  with batch as (
    select s.id, u.sessions_ended_at
    from ${users} u cross join lateral (
      select s.id from ${sessions} s
      where s.user_id = u.id and s.epoch < u.session_epoch and s.revoked_at is null
      limit 1000 for update skip locked
    ) s
    where u.sessions_ended_at is not null limit 1000
  ), marked as (
    update ${sessions} s set revoked_at = batch.sessions_ended_at, revoke_reason = 'epoch'
    from batch where s.id = batch.id returning 1
  )
  select count(*)::integer as marked from marked`,
  { marked: 'int4' },
)

/** Notes for up to 1,000 users that no session is left to mark. */
export const clearEndedUsers = statement<NoInput, never>(
  () => sql`
  with batch as (
    select u.id from ${users} u
    where u.sessions_ended_at is not null and not exists (
      select from ${sessions} s where s.user_id = u.id and s.epoch < u.session_epoch and s.revoked_at is null
    )
    limit 1000 for no key update skip locked
  )
  update ${users} u set sessions_ended_at = null from batch where u.id = batch.id`,
  {},
)

/** Deletes up to 1,000 sessions that ended longer ago than the retention (days). */
export const sweepSessions = statement<{ days: number }, { deleted: number }>(
  ($) => sql`
  with batch as (
    select id from ${sessions}
    where expires_at < now() - make_interval(days => ${$.days}::integer)
      or revoked_at < now() - make_interval(days => ${$.days}::integer)
    limit 1000 for update skip locked
  ), gone as (
    delete from ${sessions} using batch where ${sessions}.id = batch.id returning 1
  )
  select count(*)::integer as deleted from gone`,
  { deleted: 'int4' },
)

/** Where the sweep has come to, in the order of issue. */
export interface TokenPlace {
  readonly issuedAt: string
  readonly sessionId: string
  readonly generation: number
}
type Nullable<T> = { [K in keyof T]: T[K] | null }

/**
 * Looks at up to 1,000 tokens behind `after` and older than the retention (days), and locks only what it deletes: spent ones (the parent of a head not before it has expired: it may be retried late), and sessions whose head
 * expired longer ago than the retention.
 */
export const sweepRefreshTokens = statement<
  { days: number } & TokenPlace,
  { deleted: number; idleSessions: number; seen: number } & Nullable<TokenPlace>
>(
  ($) => sql`
  with aged as (
    select t.session_id, t.generation, t.issued_at,
      t.generation < s.generation - 1 or t.generation < s.generation and t.expires_at < now() as is_spent,
      t.generation = s.generation and t.expires_at < now() - make_interval(days => ${$.days}::integer) as is_idle
    from ${refreshTokens} t join ${sessions} s on s.id = t.session_id
    where t.issued_at < now() - make_interval(days => ${$.days}::integer)
      and t.issued_at >= ${$.issuedAt}::text::timestamptz
      and (t.issued_at, t.session_id, t.generation)
        > (${$.issuedAt}::text::timestamptz, ${$.sessionId}::uuid, ${$.generation}::integer)
    order by t.issued_at, t.session_id, t.generation limit 1000
  ), spent as (
    select t.session_id, t.generation from aged a join ${refreshTokens} t using (session_id, generation)
    where a.is_spent for update of t skip locked
  ), gone as (
    delete from ${refreshTokens} t using spent
    where t.session_id = spent.session_id and t.generation = spent.generation returning 1
  ), idle as (
    select s.id from aged a join ${sessions} s on s.id = a.session_id and s.generation = a.generation
    where a.is_idle for update of s skip locked
  ), gone_sessions as (
    delete from ${sessions} s using idle where s.id = idle.id returning 1
  )
  select (select count(*)::integer from gone) as deleted, (select count(*)::integer from gone_sessions) as "idleSessions",
    (select count(*)::integer from aged) as seen, last.issued_at::text as "issuedAt", last.session_id as "sessionId",
    last.generation
  from (values (1)) one left join (
    select * from aged order by issued_at desc, session_id desc, generation desc limit 1
  ) last on true`,
  {
    deleted: 'int4',
    idleSessions: 'int4',
    seen: 'int4',
    issuedAt: 'text',
    sessionId: 'uuid',
    generation: 'int4',
  },
)

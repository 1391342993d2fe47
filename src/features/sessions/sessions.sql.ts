import { type SQL, sql } from 'drizzle-orm/sql'
import { type Origin, insertEvent } from '#src/features/audit/audit.sql.ts'
import { type Parameters, statement } from '#src/db/statement.ts'
import { insertNotice } from '#src/features/mail/outbox.sql.ts'
import { oneTimeTokens, refreshTokens, type Session, sessions, users } from '#src/db/schema.ts'
import type { RevokeReason } from './revoke-reasons.ts'
import { type Account, accountColumns, accountTypes } from '#src/features/accounts/accounts.sql.ts'

export interface OpenedSession {
  readonly sessionExpiresAt: Date
  /** Sessions that were one too many. */
  readonly ended: number
}

/**
 * Opens a session with the token of generation 0, if the user is active and no session of theirs was ended since `epoch`
 * was read, and ends the oldest of those that are then one too many. `for share` waits for a change that is under way.
 */
export const insertSession = statement<
  Origin & {
    sessionId: string
    userId: number
    epoch: number
    amr: readonly string[]
    digest: Buffer
    sessionSeconds: number
    refreshSeconds: number
    sessionsPerUser: number
  },
  OpenedSession
>(
  ($) => sql`
  with owner as (
    select id, session_epoch from ${users}
    where id = ${$.userId} and is_active and session_epoch = ${$.epoch}::integer for share
  ), opened as (
    insert into ${sessions} (id, user_id, epoch, expires_at, amr, authenticated_at, ip, user_agent)
    select ${$.sessionId}::uuid, id, session_epoch, now() + make_interval(secs => ${$.sessionSeconds}::integer),
      ${$.amr}::text[], now(), ${$.ip}::text, ${$.userAgent}::text
    from owner returning *
  ), token as (
    insert into ${refreshTokens} (session_id, generation, digest, issued_at, expires_at)
    select id, 0, ${$.digest}::bytea, now(), least(now() + make_interval(secs => ${$.refreshSeconds}::integer), expires_at)
    from opened
  ), excess as (
    select s.id from ${sessions} s
    where s.user_id = (select id from owner) and s.epoch = (select session_epoch from owner) and s.revoked_at is null
      and s.id <> ${$.sessionId}::uuid
    order by s.created_at desc offset ${$.sessionsPerUser}::integer - 1 limit 1000
  ), ended as (
    update ${sessions} s set revoked_at = clock_timestamp(), revoke_reason = 'limit'
    from excess where s.id = excess.id and s.revoked_at is null returning s.id, s.user_id
  ), audited as (
    ${insertEvent($, { type: 'login.succeeded', userId: sql`opened.user_id`, actorId: sql`opened.user_id`, sessionId: sql`opened.id`, from: sql`opened` })}
  ), audited_ends as (
    ${insertEvent($, { type: 'session.ended', userId: sql`ended.user_id`, sessionId: sql`ended.id`, detail: sql`jsonb_build_object('reason', 'limit')`, from: sql`ended` })}
  )
  select expires_at as "sessionExpiresAt", (select count(*)::integer from ended) as ended from opened`,
  { sessionExpiresAt: 'timestamptz', ended: 'int4' },
)

export type SessionState = Account & {
  readonly sessionRevoked: boolean
  readonly sessionExpired: boolean
}

const stateColumns = sql`${accountColumns('u')},
      s.revoked_at is not null or s.epoch <> u.session_epoch as "sessionRevoked",
      s.expires_at <= now() as "sessionExpired"`
const stateTypes = { ...accountTypes, sessionRevoked: 'bool', sessionExpired: 'bool' } as const

/** The user of an access token and whether its session still stands: the one query of every authenticated request. */
export const sessionState = statement<{ sessionId: string; userId: number }, SessionState>(
  ($) => sql`
  select ${stateColumns}
  from ${sessions} s join ${users} u on u.id = s.user_id
  where s.id = ${$.sessionId}::uuid and s.user_id = ${$.userId}::integer`,
  stateTypes,
  { repeatable: true },
)

/** The same for all requests of one moment. `place` counts from 1; the limit makes each a look into the index. */
export const sessionStates = statement<
  { sessionIds: readonly string[]; userIds: readonly number[] },
  SessionState & { place: number }
>(
  ($) => sql`
  select asked.place::integer, state.*
  from unnest(${$.sessionIds}::uuid[], ${$.userIds}::integer[])
    with ordinality as asked (session_id, user_id, place)
  cross join lateral (
    select ${stateColumns}
    from ${sessions} s join ${users} u on u.id = s.user_id
    where s.id = asked.session_id and s.user_id = asked.user_id limit 1
  ) state`,
  { place: 'int4', ...stateTypes },
  { repeatable: true },
)

export type SessionSummary = Pick<Session, 'id' | 'createdAt' | 'expiresAt' | 'ip' | 'userAgent'> & { lastUsedAt: Date }

/** The sessions of a user that still stand, last used first, at most 200. */
export const sessionsOfUser = statement<{ userId: number }, SessionSummary>(
  ($) => sql`
  select s.id, s.created_at as "createdAt", s.expires_at as "expiresAt", s.ip, s.user_agent as "userAgent",
    coalesce(s.refreshed_at, s.created_at) as "lastUsedAt"
  from ${sessions} s join ${users} u on u.id = s.user_id and u.session_epoch = s.epoch
  where s.user_id = ${$.userId} and s.revoked_at is null and s.expires_at > now()
    and exists (
      select from ${refreshTokens} t where t.session_id = s.id and t.generation = s.generation and t.expires_at > now()
    )
  order by "lastUsedAt" desc limit 200`,
  {
    id: 'uuid',
    createdAt: 'timestamptz',
    expiresAt: 'timestamptz',
    ip: 'text',
    userAgent: 'text',
    lastUsedAt: 'timestamptz',
  },
  { repeatable: true },
)

/**
 * What an UPDATE of a user sets to end every session: the epoch. A session of an older one has ended, whether its row says
 * so yet or not, also one that this statement cannot see; the sweep marks the rows.
 */
export const raiseEpoch = sql`session_epoch = session_epoch + 1, sessions_ended_at = clock_timestamp()`

/**
 * CTEs behind an `owner` whose epoch was raised: carries the session `keepSessionId` over to the new epoch, and counts up
 * to 1,000 of those that ended.
 */
export const endSessionsExcept = ($: Parameters<{ keepSessionId: string | null }>, owner: SQL): SQL => sql`
  kept as (
    update ${sessions} s
    set epoch = case when s.epoch = owner.session_epoch - 1 then owner.session_epoch else s.epoch end
    from ${owner} owner
    where s.id = ${$.keepSessionId}::uuid and s.user_id = owner.id and s.revoked_at is null
  ), ended as (
    select count(*)::integer as count from (
      select s.id from ${owner} owner join ${sessions} s on s.user_id = owner.id and s.epoch = owner.session_epoch - 1
      where s.revoked_at is null and s.id is distinct from ${$.keepSessionId}::uuid limit 1000
    ) live
  )`

interface Ended {
  /** Sessions that the epoch ended, counted up to 1,000. */
  readonly ended: number
}

type EndAll = Origin & { userId: number; actorId: number | null; keepSessionId: string | null }

/** Ends all sessions of a user, or all others. */
export const endSessions = statement<EndAll & { reason: RevokeReason }, Ended>(
  ($) => sql`
  with owner as (
    update ${users} set ${raiseEpoch} where id = ${$.userId} and deleted_at is null returning id, session_epoch
  ), ${endSessionsExcept($, sql`owner`)}, audited as (
    ${insertEvent($, { type: 'sessions.ended', userId: sql`owner.id`, actorId: sql`${$.actorId}::integer`, sessionId: sql`${$.keepSessionId}::uuid`, detail: sql`jsonb_build_object('reason', ${$.reason}::text)`, from: sql`owner` })}
  )
  select count as ended from ended`,
  { ended: 'int4' },
  { repeatable: true },
)

/** Sets a new password, unless the old one has changed meanwhile, ends the other sessions and outstanding links. */
export const changePassword = statement<
  EndAll & { passwordHash: string; newHash: string },
  Ended & { changed: boolean }
>(
  ($) => sql`
  with owner as (
    update ${users} set password_hash = ${$.newHash}, ${raiseEpoch}, updated_at = now()
    where id = ${$.userId} and password_hash = ${$.passwordHash} returning id, email, session_epoch
  ), links as (
    delete from ${oneTimeTokens} t using owner where t.user_id = owner.id and t.purpose in ('password_reset', 'email_change')
  ), ${insertNotice({ template: 'password-changed', userId: sql`owner.id`, recipient: sql`owner.email`, from: sql`owner` })},
  ${endSessionsExcept($, sql`owner`)}, audited as (
    ${insertEvent($, { type: 'password.changed', userId: sql`owner.id`, actorId: sql`${$.actorId}::integer`, sessionId: sql`${$.keepSessionId}::uuid`, from: sql`owner` })}
  )
  select count as ended, exists (select from owner) as changed from ended`,
  { ended: 'int4', changed: 'bool' },
)

/** Ends one session of the user; no row if there is none that stands. */
export const endSession = statement<
  Origin & { sessionId: string; userId: number; reason: RevokeReason },
  { id: string }
>(
  ($) => sql`
  with ended as (
    update ${sessions} set revoked_at = clock_timestamp(), revoke_reason = ${$.reason}
    where id = ${$.sessionId} and user_id = ${$.userId} and revoked_at is null
      and epoch = (select session_epoch from ${users} where id = ${$.userId})
    returning id, user_id
  ), audited as (
    ${insertEvent($, { type: 'session.ended', userId: sql`ended.user_id`, actorId: sql`ended.user_id`, sessionId: sql`ended.id`, detail: sql`jsonb_build_object('reason', ${$.reason}::text)`, from: sql`ended` })}
  )
  select id from ended`,
  { id: 'uuid' },
)

/**
 * Whether a session has ended, as a statement that writes: a lock does, so its commit waits until all that it has read is
 * on the standbys, also what was cut off while it waited itself. No row if the user has no such session.
 */
export const confirmEnd = statement<{ sessionId: string; userId: number }, { ended: boolean }>(
  ($) => sql`
  select s.revoked_at is not null or s.epoch <> u.session_epoch or s.expires_at <= now() or not u.is_active as ended
  from ${sessions} s join ${users} u on u.id = s.user_id
  where s.id = ${$.sessionId}::uuid and s.user_id = ${$.userId}::integer for key share of s`,
  { ended: 'bool' },
  { repeatable: true },
)

/**
 * How many of the 10,000 sessions behind `after` stand, in the order of their ids. Those of an older epoch count until the
 * sweep has marked them.
 */
export const liveSessionCount = statement<{ after: string }, { count: number; seen: number; last: string | null }>(
  ($) => sql`
  select count(*) filter (where is_live)::integer as count, count(*)::integer as seen, max(id::text) as last
  from (
    select id, revoked_at is null and expires_at > now() as is_live from ${sessions}
    where id > ${$.after}::uuid order by id limit 10000
  ) part`,
  { count: 'int4', seen: 'int4', last: 'text' },
  { repeatable: true },
)

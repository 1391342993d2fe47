import { type SQL, sql } from 'drizzle-orm'
import { type Origin, recorded } from './audit-events.ts'
import { statement } from './client.ts'
import { notified } from './outbox.ts'
import { oneTimeTokens, refreshTokens, type Session, sessions, users } from './schema.ts'
import { type Account, accountColumns } from './users.ts'

const input = sql.placeholder

export type RevokeReason =
  | 'logout'
  | 'reuse'
  | 'password_change'
  | 'password_reset'
  | 'session_ended'
  | 'disabled'
  | 'admin'

export interface OpenedSession {
  readonly sessionExpiresAt: Date
}

/**
 * Opens a session with the token of generation 0, if the user is active and still has the hash that was verified.
 * `for share` waits for a password change that is under way.
 */
export const openSession = statement<
  Origin & {
    sessionId: string
    userId: number
    passwordHash: string
    digest: Buffer
    sessionSeconds: number
    refreshSeconds: number
  },
  OpenedSession
>(sql`
  with owner as (
    select id, session_epoch from ${users}
    where id = ${input('userId')} and is_active and password_hash = ${input('passwordHash')} for share
  ), opened as (
    insert into ${sessions} (id, user_id, epoch, expires_at, ip, user_agent)
    select ${input('sessionId')}::uuid, id, session_epoch, now() + make_interval(secs => ${input('sessionSeconds')}::integer),
      ${input('ip')}::text, ${input('userAgent')}::text
    from owner returning *
  ), token as (
    insert into ${refreshTokens} (session_id, generation, digest, issued_at, expires_at)
    select id, 0, ${input('digest')}::bytea, now(), least(now() + make_interval(secs => ${input('refreshSeconds')}::integer), expires_at)
    from opened
  ), audited as (
    ${recorded({ type: 'login.succeeded', userId: sql`opened.user_id`, actorId: sql`opened.user_id`, sessionId: sql`opened.id`, from: sql`opened` })}
  )
  select expires_at as "sessionExpiresAt" from opened`)

export type SessionState = Account & {
  readonly sessionRevoked: boolean
  readonly sessionExpired: boolean
}

/**
 * The users of access tokens and whether their sessions still stand: the one query of every authenticated request, for
 * all requests of the same moment. `place` counts from 1; the limit makes each a look into the index.
 */
export const sessionStates = statement<
  { sessionIds: readonly string[]; userIds: readonly number[] },
  SessionState & { place: number }
>(
  sql`
  select asked.place::integer, state.*
  from unnest(${input('sessionIds')}::uuid[], ${input('userIds')}::integer[])
    with ordinality as asked (session_id, user_id, place)
  cross join lateral (
    select ${accountColumns('u')},
      s.revoked_at is not null or s.epoch <> u.session_epoch as "sessionRevoked",
      s.expires_at <= now() as "sessionExpired"
    from ${sessions} s join ${users} u on u.id = s.user_id
    where s.id = asked.session_id and s.user_id = asked.user_id limit 1
  ) state`,
  true,
)

export type SessionSummary = Pick<Session, 'id' | 'createdAt' | 'expiresAt' | 'ip' | 'userAgent'> & { lastUsedAt: Date }

/** The sessions of a user that still stand, last used first, at most 200. */
export const sessionsOfUser = statement<{ userId: number }, SessionSummary>(
  sql`
  select s.id, s.created_at as "createdAt", s.expires_at as "expiresAt", s.ip, s.user_agent as "userAgent",
    coalesce(s.refreshed_at, s.created_at) as "lastUsedAt"
  from ${sessions} s join ${users} u on u.id = s.user_id and u.session_epoch = s.epoch
  where s.user_id = ${input('userId')} and s.revoked_at is null and s.expires_at > now()
    and exists (
      select from ${refreshTokens} t where t.session_id = s.id and t.generation = s.generation and t.expires_at > now()
    )
  order by "lastUsedAt" desc limit 200`,
  true,
)

/**
 * Ends every session of the user but `keepSessionId`: raises the epoch (which ends also a session that this statement
 * cannot see yet) and carries the one that is kept over to the new epoch.
 */
export const endedBut = (owner: SQL): SQL => {
  // One of an older epoch has ended already, and stays so.
  const kept = sql`s.id = ${input('keepSessionId')}::uuid and s.epoch = owner.session_epoch - 1`
  return sql`
  update ${sessions} s set
    epoch = case when ${kept} then owner.session_epoch else s.epoch end,
    revoked_at = case when ${kept} then null else clock_timestamp() end,
    revoke_reason = case when ${kept} then null else ${input('reason')}::text end
  from ${owner} owner where s.user_id = owner.id and s.revoked_at is null
  returning s.id`
}

interface Ended {
  readonly ended: number
}
const endedCount = sql`select (count(*) filter (where ended.id is distinct from ${input('keepSessionId')}::uuid))::integer as ended`

type EndAll = Origin & { userId: number; actorId: number | null; keepSessionId: string | null; reason: RevokeReason }

/** Ends all sessions of a user, or all others. */
export const endSessions = statement<EndAll, Ended>(
  sql`
  with owner as (
    update ${users} set session_epoch = session_epoch + 1 where id = ${input('userId')} returning id, session_epoch
  ), ended as (${endedBut(sql`owner`)}), audited as (
    ${recorded({ type: 'sessions.ended', userId: sql`owner.id`, actorId: sql`${input('actorId')}::integer`, sessionId: sql`${input('keepSessionId')}::uuid`, detail: sql`jsonb_build_object('reason', ${input('reason')}::text)`, from: sql`owner` })}
  )
  ${endedCount} from ended`,
  true,
)

/** Sets a new password, unless the old one has changed meanwhile, ends the other sessions and outstanding links. */
export const changePassword = statement<
  EndAll & { passwordHash: string; newHash: string },
  Ended & { changed: boolean }
>(sql`
  with owner as (
    update ${users} set password_hash = ${input('newHash')}, session_epoch = session_epoch + 1, updated_at = now()
    where id = ${input('userId')} and password_hash = ${input('passwordHash')} returning id, email, session_epoch
  ), links as (
    delete from ${oneTimeTokens} t using owner where t.user_id = owner.id and t.purpose in ('password_reset', 'email_change')
  ), ${notified({ template: 'password-changed', userId: sql`owner.id`, recipient: sql`owner.email`, from: sql`owner` })},
  ended as (${endedBut(sql`owner`)}), audited as (
    ${recorded({ type: 'password.changed', userId: sql`owner.id`, actorId: sql`${input('actorId')}::integer`, sessionId: sql`${input('keepSessionId')}::uuid`, from: sql`owner` })}
  )
  ${endedCount}, exists (select from owner) as changed from ended`)

/** Ends one session of the user; no row if there is none that stands. */
export const endSession = statement<
  Origin & { sessionId: string; userId: number; reason: RevokeReason },
  { id: string }
>(sql`
  with ended as (
    update ${sessions} set revoked_at = clock_timestamp(), revoke_reason = ${input('reason')}
    where id = ${input('sessionId')} and user_id = ${input('userId')} and revoked_at is null
    returning id, user_id
  ), audited as (
    ${recorded({ type: 'session.ended', userId: sql`ended.user_id`, actorId: sql`ended.user_id`, sessionId: sql`ended.id`, detail: sql`jsonb_build_object('reason', ${input('reason')}::text)`, from: sql`ended` })}
  )
  select id from ended`)

/** Deletes up to 1,000 sessions that ended longer ago than the retention (days). */
export const sweepSessions = statement<{ days: number }, { deleted: number }>(sql`
  with batch as (
    select id from ${sessions}
    where expires_at < now() - make_interval(days => ${input('days')}::integer)
      or revoked_at < now() - make_interval(days => ${input('days')}::integer)
    limit 1000 for update skip locked
  ), gone as (
    delete from ${sessions} using batch where ${sessions}.id = batch.id returning 1
  )
  select count(*)::integer as deleted from gone`)

import { sql } from 'drizzle-orm'
import { type Origin, recorded } from './audit-events.ts'
import { statement } from './client.ts'
import { refreshTokens, sessions, users } from './schema.ts'

const input = sql.placeholder

/** What the database says about the user and the session whose token was accepted. */
export interface Grant {
  readonly userId: number
  readonly roles: string[]
  readonly sessionExpiresAt: Date
}

/**
 * First use of a refresh token: moves the head of its session and inserts the successor, or returns no row and changes
 * nothing. Of any number of concurrent presentations one moves the head; the others wait for its row and find it moved.
 */
export const rotateRefreshToken = statement<
  {
    sessionId: string
    generation: number
    digest: Buffer
    salt: Buffer
    successorDigest: Buffer
    refreshSeconds: number
  },
  Grant
>(
  sql`
  with head as (
    update ${sessions} s
    set generation = s.generation + 1, successor_salt = ${input('salt')}, refreshed_at = clock_timestamp()
    from ${refreshTokens} t, ${users} u
    where s.id = ${input('sessionId')}::uuid and s.generation = ${input('generation')}::integer
      and t.session_id = s.id and t.generation = s.generation and t.digest = ${input('digest')}
      and t.expires_at > clock_timestamp()
      and s.revoked_at is null and s.expires_at > clock_timestamp()
      and u.id = s.user_id and u.is_active and u.session_epoch = s.epoch
    returning s.id, s.generation, s.expires_at, s.refreshed_at, u.id as user_id, u.roles
  ), successor as (
    insert into ${refreshTokens} (session_id, generation, digest, issued_at, expires_at)
    select id, generation, ${input('successorDigest')}::bytea, refreshed_at,
      least(refreshed_at + make_interval(secs => ${input('refreshSeconds')}::integer), expires_at)
    from head
  )
  select user_id as "userId", roles, expires_at as "sessionExpiresAt" from head`,
  true,
)

export interface TokenState extends Grant {
  readonly userIsActive: boolean
  readonly sessionRevoked: boolean
  readonly sessionExpired: boolean
  readonly tokenExpired: boolean
  readonly tokenExpiresAt: Date
  readonly headGeneration: number
  readonly successorSalt: Buffer | null
  readonly successorDigest: Buffer | null
  /** The successor was issued at most the grace window ago. */
  readonly withinGrace: boolean
}

/** The second look at a token that was not rotated; no row if there is no such token. */
export const refreshTokenState = statement<
  { sessionId: string; generation: number; digest: Buffer; graceSeconds: number },
  TokenState
>(
  sql`
  select u.id as "userId", u.roles, u.is_active as "userIsActive",
    s.expires_at as "sessionExpiresAt", s.expires_at <= clock_timestamp() as "sessionExpired",
    s.revoked_at is not null or s.epoch <> u.session_epoch as "sessionRevoked",
    s.generation as "headGeneration", s.successor_salt as "successorSalt",
    t.expires_at <= clock_timestamp() as "tokenExpired", t.expires_at as "tokenExpiresAt", successor.digest as "successorDigest",
    coalesce(successor.issued_at > clock_timestamp() - make_interval(secs => ${input('graceSeconds')}::integer), false)
      as "withinGrace"
  from ${refreshTokens} t
  join ${sessions} s on s.id = t.session_id
  join ${users} u on u.id = s.user_id
  left join ${refreshTokens} successor on successor.session_id = t.session_id and successor.generation = t.generation + 1
  where t.session_id = ${input('sessionId')}::uuid and t.generation = ${input('generation')}::integer
    and t.digest = ${input('digest')}`,
  true,
)

/** Ends the session of a token that was used twice, in a statement of its own: it stays although the request fails. */
export const revokeReusedSession = statement<Origin & { sessionId: string }, { id: string }>(
  sql`
  with ended as (
    update ${sessions} set revoked_at = clock_timestamp(), revoke_reason = 'reuse'
    where id = ${input('sessionId')} and revoked_at is null returning id, user_id
  ), audited as (
    ${recorded({ type: 'refresh_token.reused', userId: sql`ended.user_id`, sessionId: sql`ended.id`, from: sql`ended` })}
  )
  select id from ended`,
  true,
)

/** Looks at up to 1,000 tokens issued after `after` and longer ago than the retention (days); deletes the spent ones. */
export const sweepRefreshTokens = statement<
  { days: number; after: string },
  { deleted: number; seen: number; last: string | null }
>(sql`
  with batch as (
    select session_id, generation, issued_at from ${refreshTokens}
    where issued_at < now() - make_interval(days => ${input('days')}::integer) and issued_at > ${input('after')}::text::timestamptz
    order by issued_at limit 1000 for update skip locked
  ), gone as (
    delete from ${refreshTokens} t using batch, ${sessions} s
    where t.session_id = batch.session_id and t.generation = batch.generation
      and s.id = t.session_id and t.generation < s.generation
    returning 1
  )
  select (select count(*)::integer from gone) as deleted, count(*)::integer as seen, max(issued_at)::text as last from batch`)

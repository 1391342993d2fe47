import { sql } from 'drizzle-orm/sql'
import { type Origin, insertEvent } from '#src/features/audit/audit.sql.ts'
import { statement } from '#src/db/statement.ts'
import { refreshTokens, sessions, users } from '#src/db/schema.ts'

/** What the database says about the user and the session whose token was accepted. */
export interface Grant {
  readonly userId: number
  readonly roles: string[]
  readonly sessionExpiresAt: Date
}
const grantTypes = { userId: 'int4', roles: 'text[]', sessionExpiresAt: 'timestamptz' } as const

/** What a first use of a refresh token presents, and the successor that it would get. */
export type Rotation = {
  readonly sessionId: string
  readonly generation: number
  readonly digest: Buffer
  readonly salt: Buffer
  readonly successorDigest: Buffer
  readonly refreshSeconds: number
}

/**
 * First use of a refresh token: moves the head of its session and inserts the successor, or returns no row and changes
 * nothing. Of any number of concurrent presentations one moves the head; the others wait for its row and find it moved.
 */
export const rotateRefreshToken = statement<Rotation, Grant>(
  ($) => sql`
  with head as (
    update ${sessions} s
    set generation = s.generation + 1, successor_salt = ${$.salt}, refreshed_at = clock_timestamp()
    from ${refreshTokens} t, ${users} u
    where s.id = ${$.sessionId}::uuid and s.generation = ${$.generation}::integer
      and t.session_id = s.id and t.generation = s.generation and t.digest = ${$.digest}
      and t.expires_at > clock_timestamp()
      and s.revoked_at is null and s.expires_at > clock_timestamp()
      and u.id = s.user_id and u.is_active and u.session_epoch = s.epoch
    returning s.id, s.generation, s.expires_at, s.refreshed_at, u.id as user_id, u.roles
  ), successor as (
    insert into ${refreshTokens} (session_id, generation, digest, issued_at, expires_at)
    select id, generation, ${$.successorDigest}::bytea, refreshed_at,
      least(refreshed_at + make_interval(secs => ${$.refreshSeconds}::integer), expires_at)
    from head
  )
  select user_id as "userId", roles, expires_at as "sessionExpiresAt" from head`,
  grantTypes,
  { repeatable: true },
)

/**
 * First uses of several sessions, in one statement that waits for no lock: the row of each that moved, `place` counting
 * from 1. No row says nothing: the session may only be locked.
 */
export const rotateRefreshTokens = statement<
  {
    sessionIds: readonly string[]
    generations: readonly number[]
    /** These three in hexadecimal. */
    digests: readonly string[]
    salts: readonly string[]
    successorDigests: readonly string[]
    refreshSeconds: number
  },
  Grant & { place: number }
>(
  ($) => sql`
  with asked as (
    select a.session_id, a.generation, decode(a.digest, 'hex') as digest, decode(a.salt, 'hex') as salt,
      decode(a.successor_digest, 'hex') as successor_digest, a.place
    from unnest(${$.sessionIds}::uuid[], ${$.generations}::integer[], ${$.digests}::text[],
      ${$.salts}::text[], ${$.successorDigests}::text[])
      with ordinality as a (session_id, generation, digest, salt, successor_digest, place)
  ), free as (
    select asked.* from asked cross join lateral (
      select from ${sessions} s where s.id = asked.session_id and s.generation = asked.generation
      limit 1 for no key update skip locked
    ) s
  ), head as (
    update ${sessions} s
    set generation = s.generation + 1, successor_salt = free.salt, refreshed_at = clock_timestamp()
    from free, ${refreshTokens} t, ${users} u
    where s.id = free.session_id and s.generation = free.generation
      and t.session_id = free.session_id and t.generation = free.generation and t.digest = free.digest
      and t.expires_at > clock_timestamp()
      and s.revoked_at is null and s.expires_at > clock_timestamp()
      and u.id = s.user_id and u.is_active and u.session_epoch = s.epoch
    returning free.place, free.successor_digest, s.id, s.generation, s.expires_at, s.refreshed_at, u.id as user_id, u.roles
  ), successor as (
    insert into ${refreshTokens} (session_id, generation, digest, issued_at, expires_at)
    select id, generation, successor_digest, refreshed_at,
      least(refreshed_at + make_interval(secs => ${$.refreshSeconds}::integer), expires_at)
    from head
  )
  select place::integer, user_id as "userId", roles, expires_at as "sessionExpiresAt" from head`,
  { place: 'int4', ...grantTypes },
  { repeatable: true },
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
  /** The generation of the head at which a late retry was last granted, and in how many generations in a row. */
  readonly lateGeneration: number | null
  readonly lateCount: number
}

/** The second look at a token that was not rotated; no row if there is no such token. */
export const refreshTokenState = statement<
  { sessionId: string; generation: number; digest: Buffer; graceSeconds: number },
  TokenState
>(
  ($) => sql`
  select u.id as "userId", u.roles, u.is_active as "userIsActive",
    s.expires_at as "sessionExpiresAt", s.expires_at <= clock_timestamp() as "sessionExpired",
    s.revoked_at is not null or s.epoch <> u.session_epoch as "sessionRevoked",
    s.generation as "headGeneration", s.successor_salt as "successorSalt",
    s.late_generation as "lateGeneration", s.late_count as "lateCount",
    t.expires_at <= clock_timestamp() as "tokenExpired", t.expires_at as "tokenExpiresAt", successor.digest as "successorDigest",
    coalesce(successor.issued_at > clock_timestamp() - make_interval(secs => ${$.graceSeconds}::integer), false)
      as "withinGrace"
  from ${refreshTokens} t
  join ${sessions} s on s.id = t.session_id
  join ${users} u on u.id = s.user_id
  left join ${refreshTokens} successor on successor.session_id = t.session_id and successor.generation = t.generation + 1
  where t.session_id = ${$.sessionId}::uuid and t.generation = ${$.generation}::integer
    and t.digest = ${$.digest}`,
  {
    ...grantTypes,
    userIsActive: 'bool',
    sessionRevoked: 'bool',
    sessionExpired: 'bool',
    tokenExpired: 'bool',
    tokenExpiresAt: 'timestamptz',
    headGeneration: 'int4',
    successorSalt: 'bytea',
    successorDigest: 'bytea',
    withinGrace: 'bool',
    lateGeneration: 'int4',
    lateCount: 'int4',
  },
  { repeatable: true },
)

/**
 * Notes that the parent of the head is answered late, if the head is still its successor and fewer than `lateRetries`
 * generations in a row had a late retry; no row otherwise, nor where it is noted for this head already.
 */
export const grantLateRetry = statement<
  Origin & { sessionId: string; generation: number; lateRetries: number },
  { id: string }
>(
  ($) => sql`
  with granted as (
    update ${sessions} s
    set late_generation = s.generation,
      late_count = case when s.late_generation = ${$.generation}::integer then s.late_count + 1 else 1 end
    from ${users} u
    where s.id = ${$.sessionId}::uuid and s.generation = ${$.generation}::integer + 1
      and s.late_generation is distinct from s.generation
      and (s.late_generation is distinct from ${$.generation}::integer
        or s.late_count < ${$.lateRetries}::integer)
      and s.revoked_at is null and s.expires_at > clock_timestamp()
      and u.id = s.user_id and u.is_active and u.session_epoch = s.epoch
    returning s.id, s.user_id
  ), audited as (
    ${insertEvent($, { type: 'refresh_token.late_retry', userId: sql`granted.user_id`, sessionId: sql`granted.id`, from: sql`granted` })}
  )
  select id from granted`,
  { id: 'uuid' },
  { repeatable: true },
)

/**
 * Whether there is a token of this generation and digest, as a statement that writes: a lock does, so its commit waits
 * until what it has read is on the standbys, also a rotation that was cut off while it waited itself.
 */
export const confirmSuccessor = statement<
  { sessionId: string; generation: number; digest: Buffer },
  { generation: number }
>(
  ($) => sql`
  select generation from ${refreshTokens}
  where session_id = ${$.sessionId}::uuid and generation = ${$.generation}::integer and digest = ${$.digest}
  for key share`,
  { generation: 'int4' },
  { repeatable: true },
)

/** Ends the session of a token that was used twice, in a statement of its own: it stays although the request fails. */
export const revokeReusedSession = statement<Origin & { sessionId: string }, { id: string }>(
  ($) => sql`
  with ended as (
    update ${sessions} set revoked_at = clock_timestamp(), revoke_reason = 'reuse'
    where id = ${$.sessionId} and revoked_at is null returning id, user_id
  ), audited as (
    ${insertEvent($, { type: 'refresh_token.reused', userId: sql`ended.user_id`, sessionId: sql`ended.id`, from: sql`ended` })}
  )
  select id from ended`,
  { id: 'uuid' },
  { repeatable: true },
)

import { randomUUIDv7 } from 'node:crypto'
import DataLoader from 'dataloader'
import type { Origin } from '#src/features/audit/audit.sql.ts'
import { Budget } from '#src/db/budget.ts'
import type { Database } from '#src/db/database.ts'
import { resendVerification } from '#src/features/recovery/one-time-tokens.sql.ts'
import {
  endSession,
  endSessions,
  openSession,
  sessionsOfUser,
  type SessionState,
  sessionStates,
  type SessionSummary,
} from './sessions.sql.ts'
import {
  type Account,
  type Credentials,
  upgradePasswordHash,
  userByEmail,
  userByUsername,
} from '#src/features/accounts/accounts.sql.ts'
import { Problem } from '#src/problem.ts'
import { record } from '#src/features/audit/audit.ts'
import type { Core } from '#src/features/core.ts'
import { newLink } from '#src/features/recovery/one-time-tokens.ts'
import {
  type AccessClaims,
  type AccessToken,
  digestOf,
  firstRefreshToken,
  formatRefreshToken,
} from '#src/features/tokens/tokens.ts'

export interface TokenPair extends AccessToken {
  readonly refreshToken: string
  /** Of the refresh token; with both, replies can be put in order. */
  readonly sessionId: string
  readonly generation: number
}

/** An access token that was accepted, with the user as the database knows them now. */
export interface Authentication extends AccessClaims {
  readonly account: Account
}

/** Opens a session for a login name (e-mail address or username) and a password; throws `credentials_invalid`. */
export async function logIn(core: Core, name: string, password: string, origin: Origin): Promise<TokenPair> {
  try {
    const first = await attemptLogin(core, name, password, origin)
    // The stored hash changed after it was read: a parallel login upgraded it, or the password is another one now.
    const pair = first ?? (await attemptLogin(core, name, password, origin))
    if (!pair) throw new Problem('unavailable', { cause: 'login: raced', headers: { 'retry-after': '1' } })
    core.counters.login('succeeded')
    return pair
  } catch (error) {
    if (error instanceof Problem && error.status === 503) core.counters.login('unavailable')
    throw error
  }
}

async function attemptLogin(core: Core, name: string, password: string, origin: Origin) {
  const user = await core.db.row(name.includes('@') ? userByEmail : userByUsername, { name })
  const target = { userId: user?.id, name, address: origin.ip }
  return core.limits.login(target, () => openByPassword(core, user, password, origin))
}

async function openByPassword(core: Core, user: Credentials | undefined, password: string, origin: Origin) {
  const matches = await core.passwords.matches(user?.passwordHash ?? null, password)
  if (!user?.passwordHash || !matches) throw await refused(core, 'failed', user, origin)
  if (!user.isActive) throw await refused(core, 'disabled', user, origin)
  if (core.mail.requireVerifiedEmail && user.email !== null && user.emailVerifiedAt === null)
    throw await unverified(core, user, origin)

  const passwordHash = await withCurrentHash(core, user.id, user.passwordHash, password)
  const sessionId = randomUUIDv7()
  const refreshToken = firstRefreshToken(sessionId)
  const opened = await core.db.row(openSession, {
    ...origin,
    sessionId,
    userId: user.id,
    passwordHash,
    digest: digestOf(refreshToken.secret),
    sessionSeconds: core.lifetimes.sessionSeconds,
    refreshSeconds: core.lifetimes.refreshTokenSeconds,
    sessionsPerUser: core.lifetimes.sessionsPerUser,
  })
  if (!opened) return undefined
  core.counters.sessionsRevoked('limit', opened.ended)
  return {
    ...core.accessTokens.sign({ userId: user.id, roles: user.roles, sessionId, ...opened }),
    refreshToken: formatRefreshToken(refreshToken),
    sessionId,
    generation: refreshToken.generation,
  }
}

/**
 * Reads the states of sessions; requests that arrive in one turn of the event loop share a query, none a result. The
 * query has a budget of its own, or the first of them would lend it what is left of its; each pays for it.
 */
export function makeSessionStates(db: Database): SessionStates {
  const read = async (asked: ReadonlyArray<Asked>) => {
    const states = Array.from<SessionState | undefined>({ length: asked.length })
    const sessionIds = asked.map(({ claims }) => claims.sessionId)
    const userIds = asked.map(({ claims }) => claims.userId)
    const budget = new Budget()
    try {
      const rows = await budget.run(() => db.rows(sessionStates, { sessionIds, userIds }))
      for (const { place, ...state } of rows) states[place - 1] = state
    } finally {
      for (const { payer } of asked) payer?.pay(budget)
    }
    return states
  }
  const batchScheduleFn = (run: () => void) => setImmediate(run)
  const loader = new DataLoader(read, { cache: false, maxBatchSize: 200, batchScheduleFn })
  return { load: (claims) => loader.load({ claims, payer: Budget.current }) }
}

type SessionClaims = Pick<AccessClaims, 'sessionId' | 'userId'>
interface Asked {
  readonly claims: SessionClaims
  readonly payer: Budget | undefined
}
export interface SessionStates {
  readonly load: (claims: SessionClaims) => Promise<SessionState | undefined>
}

/** The user and the session of an access token; throws a 401 `Problem` once either no longer stands. One query. */
export async function authenticate(core: Core, accessToken: string): Promise<Authentication> {
  return requireStanding(core, await core.accessTokens.verify(accessToken))
}

/** The user and the session of claims that were verified; throws as `authenticate` does. */
export async function requireStanding(core: Core, claims: AccessClaims): Promise<Authentication> {
  const state = await core.sessionStates.load(claims)
  if (!state || state.sessionRevoked) throw new Problem('session_revoked')
  if (!state.isActive) throw new Problem('user_disabled')
  if (state.sessionExpired) throw new Problem('session_expired')
  return { ...claims, account: state }
}

export type LogoutScope = 'global' | 'local' | 'others'

/** Logs out by an access token; one whose session has ended already changes nothing. Throws `token_…`. */
export async function logOutByAccessToken(core: Core, accessToken: string, scope: LogoutScope, origin: Origin) {
  try {
    const { account, sessionId } = await authenticate(core, accessToken)
    await logOut(core, { userId: account.id, sessionId }, scope, origin)
  } catch (error) {
    if (error instanceof Problem && hasEnded.has(error.code)) return
    throw error
  }
}

const hasEnded = new Set<string>(['session_revoked', 'session_expired', 'user_disabled'])

/** Ends all sessions of the user (`global`), this one (`local`) or all but this one (`others`). */
export async function logOut(
  core: Core,
  { userId, sessionId }: { userId: number; sessionId: string },
  scope: LogoutScope,
  origin: Origin,
): Promise<void> {
  if (scope === 'local') {
    await endOneSession(core, { userId, sessionId, reason: 'logout' }, origin)
    return
  }
  const keepSessionId = scope === 'others' ? sessionId : null
  const result = await core.db.row(endSessions, { ...origin, userId, actorId: userId, keepSessionId, reason: 'logout' })
  core.counters.sessionsRevoked('logout', result?.ended ?? 0)
}

/** The user's sessions that still stand, last used first. */
export function listSessions(core: Core, userId: number): Promise<SessionSummary[]> {
  return core.db.rows(sessionsOfUser, { userId })
}

/** Ends one session of the user; resolves to whether there was one. */
export async function endOneSession(
  core: Core,
  session: { userId: number; sessionId: string; reason: 'logout' | 'session_ended' },
  origin: Origin,
): Promise<boolean> {
  const ended = await core.db.row(endSession, { ...origin, ...session })
  if (ended) core.counters.sessionsRevoked(session.reason, 1)
  return ended !== undefined
}

async function withCurrentHash(core: Core, id: number, passwordHash: string, password: string): Promise<string> {
  // bcrypt looked at 72 bytes only: what was typed after them may be a slip, and must not become the password.
  const isCut = passwordHash.startsWith('$2') && Buffer.byteLength(password) > 72
  if (isCut || !core.passwords.isOutdated(passwordHash)) return passwordHash
  const newHash = await core.passwords.hash(password)
  const upgraded = await core.db.row(upgradePasswordHash, { id, passwordHash, newHash })
  return upgraded ? newHash : passwordHash
}

/** A login that has to wait for the confirmation of the address; the link is sent again when the last is a minute old. */
async function unverified(core: Core, user: Credentials, origin: Origin): Promise<Problem> {
  core.counters.login('unverified')
  await core.db.rows(resendVerification, { ...origin, userId: user.id, ...newLink(core, 'email_verify') })
  core.mail.queued()
  return new Problem('email_not_verified')
}

async function refused(core: Core, outcome: 'failed' | 'disabled', user: Credentials | undefined, origin: Origin) {
  core.counters.login(outcome)
  await record(core, `login.${outcome}`, { userId: user?.id ?? null }, origin)
  return new Problem('credentials_invalid')
}

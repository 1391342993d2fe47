import { randomBytes, timingSafeEqual } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import type { Origin } from '#src/features/audit/audit.sql.ts'
import {
  confirmSuccessor,
  type Grant,
  grantLateRetry,
  refreshTokenState,
  revokeReusedSession,
  type TokenState,
} from './rotation.sql.ts'
import { Problem, type ProblemCode } from '#src/problem.ts'
import type { Core } from '#src/features/core.ts'
import type { RefreshOutcome } from './sessions.metrics.ts'
import type { TokenPair } from './open.ts'
import {
  digestOf,
  formatRefreshToken,
  parseRefreshToken,
  type RefreshToken,
  successorOf,
} from '#src/features/tokens/tokens.ts'

/** Who presents a refresh token: where they are, and whether they still wait for the answer. */
export interface Sender extends Origin {
  readonly isWaiting: () => boolean
}

/**
 * Exchanges a refresh token for its one successor and a fresh access token (RFC 6749 §6, RFC 9700 §4.14.2); throws a 401
 * `Problem` `refresh_token_…`, or `unavailable`, which says nothing about the token.
 */
export async function refresh(core: Core, text: string, sender: Sender): Promise<TokenPair> {
  return core.limits.refresh(text, () => countedExchange(core, text, sender))
}

async function countedExchange(core: Core, text: string, sender: Sender): Promise<TokenPair> {
  try {
    const { outcome, pair } = await exchange(core, text, sender)
    core.counters.refresh(outcome)
    return pair
  } catch (error) {
    core.counters.refresh(outcomeOf(error))
    throw error
  }
}

/** Looks that one request may take while others move the head of its session. */
const looks = 3

const granted = { own: 'rotated', replayed: 'replayed', late: 'late' } as const

type Exchange = { readonly outcome: 'rotated' | 'replayed' | 'late'; readonly pair: TokenPair }

async function exchange(core: Core, text: string, sender: Sender): Promise<Exchange> {
  const presented = parsePresented(text)
  const { grant, token } = await rotate(core, presented)
  if (grant) return { outcome: 'rotated', pair: pairOf(core, grant, token) }

  for (let look = 0; look < looks; look++) {
    const state = await stateOf(core, presented)
    const standing = standingOf(core, presented, state, token)
    if (standing === 'superseded') throw new Problem('refresh_token_superseded')
    if (standing === 'reused') return endReusedSession(core, presented, sender)
    // Still unspent although it was not rotated: the row changed between the two looks.
    if (standing === 'unspent') break
    const successor = standing === 'own' ? token : successorAgain(core, presented, state)
    if (standing === 'late' && !(await noteLateRetry(core, presented, state, sender))) continue
    if (await isKept(core, successor)) return { outcome: granted[standing], pair: pairOf(core, state, successor) }
  }
  throw new Problem('unavailable', { cause: 'rotation: raced', headers: { 'retry-after': '1' } })
}

/** First use: one statement, one round trip. */
async function rotate(core: Core, presented: RefreshToken): Promise<{ grant: Grant | undefined; token: RefreshToken }> {
  const [key] = core.successorKeys
  if (!key) throw new Error('there is no key for refresh tokens')
  const salt = randomBytes(16)
  const token = successorOf(presented, salt, key)
  const grant = await core.rotations.rotate({
    sessionId: presented.sessionId,
    generation: presented.generation,
    digest: digestOf(presented.secret),
    salt,
    successorDigest: digestOf(token.secret),
    refreshSeconds: core.lifetimes.refreshTokenSeconds,
  })
  return { grant, token }
}

/** The second look; a wrong secret is an unknown token, so that a guess cannot revoke anything. */
export async function stateOf(core: Core, presented: RefreshToken): Promise<TokenState> {
  const state = await core.db.row(refreshTokenState, {
    sessionId: presented.sessionId,
    generation: presented.generation,
    digest: digestOf(presented.secret),
    graceSeconds: core.lifetimes.refreshGraceSeconds,
  })
  if (!state) throw new Problem('refresh_token_invalid')
  return state
}

/** Where a token stands in its session. `own`: spent by this very request, whose first answer the database lost. */
export type Standing = 'unspent' | 'own' | 'replayed' | 'superseded' | 'late' | 'reused'

/** One guard per case, in the order of the specification; throws a 401 `Problem` for what has ended. Writes nothing. */
export function standingOf(core: Core, presented: RefreshToken, state: TokenState, drawn?: RefreshToken): Standing {
  const { headGeneration, successorDigest, withinGrace } = state
  if (state.sessionRevoked) throw new Problem('refresh_token_revoked')
  if (!state.userIsActive) throw new Problem('refresh_token_user_disabled')
  if (state.sessionExpired || state.tokenExpired) throw new Problem('refresh_token_expired')
  if (headGeneration === presented.generation) return 'unspent'
  const isParent = headGeneration === presented.generation + 1
  // The salt is this request's own, so its successor is there only if the statement ran, lost its answer and ran again.
  if (isParent && drawn && successorDigest && timingSafeEqual(digestOf(drawn.secret), successorDigest)) return 'own'
  if (withinGrace) return isParent ? 'replayed' : 'superseded'
  return isParent && mayRetryLate(core, state, presented) ? 'late' : 'reused'
}

/** The successor was never presented, and the last `refreshLateRetries` generations did not each have a late retry. */
function mayRetryLate({ lifetimes }: Core, { lateGeneration, lateCount }: TokenState, { generation }: RefreshToken) {
  const { refreshLateRetries } = lifetimes
  return refreshLateRetries > 0 && (lateGeneration !== generation || lateCount < refreshLateRetries)
}

/** Resolves to whether the late retry stands: it is noted for this head by now, or was before. */
async function noteLateRetry(core: Core, presented: RefreshToken, state: TokenState, sender: Sender) {
  if (state.lateGeneration === state.headGeneration) return true
  await requireWaiting(sender)
  const { sessionId, generation } = presented
  const { refreshLateRetries: lateRetries } = core.lifetimes
  return (await core.db.row(grantLateRetry, { ...sender, sessionId, generation, lateRetries })) !== undefined
}

/** A successor that was read may not be on the standbys yet, and a failover would take it back: it is handed out once it is there. */
async function isKept(core: Core, { sessionId, generation, secret }: RefreshToken): Promise<boolean> {
  return (await core.db.row(confirmSuccessor, { sessionId, generation, digest: digestOf(secret) })) !== undefined
}

/** RFC 9700 §4.14.2: a spent token that comes back tells of a theft, and the whole session ends. */
export async function endReusedSession(core: Core, { sessionId }: RefreshToken, sender: Sender): Promise<never> {
  await requireWaiting(sender)
  const ended = await core.db.row(revokeReusedSession, { ...sender, sessionId })
  if (ended) core.counters.sessionsRevoked('reuse', 1)
  throw new Problem('refresh_token_reused')
}

/**
 * Refuses a request whose client has given up: it was held back, by a frozen process or a proxy, and the client has long
 * repeated it elsewhere. It is no sign of a theft, and nobody is there to take a token.
 */
async function requireWaiting(sender: Sender): Promise<void> {
  // After a standstill the end of the connection may still lie in the socket: one turn reads it.
  await setImmediate()
  if (!sender.isWaiting()) throw new Problem('refresh_token_superseded', { cause: 'rotation: the client is gone' })
}

/** The same successor again, from the presented secret and the salt of the head. */
function successorAgain(core: Core, presented: RefreshToken, { successorSalt, successorDigest }: TokenState) {
  const token =
    successorSalt && successorDigest
      ? core.successorKeys
          .map((key) => successorOf(presented, successorSalt, key))
          .find(({ secret }) => timingSafeEqual(digestOf(secret), successorDigest))
      : undefined
  if (!token) throw new Problem('refresh_token_superseded', { cause: 'rotation: the key changed meanwhile' })
  return token
}

/** Reads what was presented; throws `refresh_token_invalid`. */
export function parsePresented(text: string): RefreshToken {
  const token = parseRefreshToken(text)
  if (!token) throw new Problem('refresh_token_invalid')
  return token
}

function pairOf(core: Core, { userId, roles, sessionExpiresAt }: Grant, token: RefreshToken): TokenPair {
  const { sessionId } = token
  return {
    ...core.accessTokens.sign({ userId, roles, sessionId, sessionExpiresAt }),
    refreshToken: formatRefreshToken(token),
    sessionId,
    generation: token.generation,
  }
}

const outcomes: Partial<Record<ProblemCode, RefreshOutcome>> = {
  refresh_token_invalid: 'invalid',
  refresh_token_expired: 'expired',
  refresh_token_revoked: 'revoked',
  refresh_token_user_disabled: 'revoked',
  refresh_token_superseded: 'superseded',
  refresh_token_reused: 'reused',
}

function outcomeOf(error: unknown): RefreshOutcome {
  return (error instanceof Problem && outcomes[error.code]) || 'unavailable'
}

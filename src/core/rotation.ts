import { randomBytes, timingSafeEqual } from 'node:crypto'
import type { Origin } from '#src/db/audit-events.ts'
import {
  type Grant,
  refreshTokenState,
  revokeReusedSession,
  rotateRefreshToken,
  type TokenState,
} from '#src/db/refresh-tokens.ts'
import { Problem, type ProblemCode } from '#src/problem.ts'
import type { Core, RefreshOutcome } from './core.ts'
import { logOut, type LogoutScope, type TokenPair } from './sessions.ts'
import { digestOf, formatRefreshToken, parseRefreshToken, type RefreshToken, successorOf } from './tokens.ts'

/**
 * Exchanges a refresh token for its one successor and a fresh access token (RFC 6749 §6, RFC 9700 §4.14.2); throws a 401
 * `Problem` `refresh_token_…`, or `unavailable`, which says nothing about the token.
 */
export async function refresh(core: Core, text: string, origin: Origin): Promise<TokenPair> {
  return core.limits.refresh(text, () => countedExchange(core, text, origin))
}

async function countedExchange(core: Core, text: string, origin: Origin): Promise<TokenPair> {
  try {
    const { outcome, pair } = await exchange(core, text, origin)
    core.counters.refresh(outcome)
    return pair
  } catch (error) {
    core.counters.refresh(outcomeOf(error))
    throw error
  }
}

/** Ends sessions by a refresh token, for a client whose access token has expired; throws as `refresh` does. */
export async function logOutByRefreshToken(
  core: Core,
  text: string,
  scope: LogoutScope,
  origin: Origin,
): Promise<void> {
  const presented = parse(text)
  const state = await stateOf(core, presented)
  if (state.sessionRevoked) return
  await requireFresh(core, presented, state, origin)
  await logOut(core, { userId: state.userId, sessionId: presented.sessionId }, scope, origin)
}

async function exchange(
  core: Core,
  text: string,
  origin: Origin,
): Promise<{ outcome: 'rotated' | 'replayed'; pair: TokenPair }> {
  const presented = parse(text)
  const { grant, token } = await rotate(core, presented)
  if (grant) return { outcome: 'rotated', pair: pairOf(core, grant, token) }

  const state = await stateOf(core, presented)
  // The salt is this request's own, so its successor is there only if the statement ran, lost its answer and ran again.
  const isOwn =
    state.headGeneration === token.generation &&
    state.successorDigest !== null &&
    timingSafeEqual(digestOf(token.secret), state.successorDigest)
  await requireFresh(core, presented, state, origin, isOwn)
  if (isOwn) return { outcome: 'rotated', pair: pairOf(core, state, token) }
  return { outcome: 'replayed', pair: pairOf(core, state, replay(core, presented, state)) }
}

/** First use: one statement, one round trip. */
async function rotate(core: Core, presented: RefreshToken): Promise<{ grant: Grant | undefined; token: RefreshToken }> {
  const [key] = core.successorKeys
  if (!key) throw new Error('there is no key for refresh tokens')
  const salt = randomBytes(16)
  const token = successorOf(presented, salt, key)
  const grant = await core.db.row(rotateRefreshToken, {
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
async function stateOf(core: Core, presented: RefreshToken): Promise<TokenState> {
  const state = await core.db.row(refreshTokenState, {
    sessionId: presented.sessionId,
    generation: presented.generation,
    digest: digestOf(presented.secret),
    graceSeconds: core.lifetimes.refreshGraceSeconds,
  })
  if (!state) throw new Problem('refresh_token_invalid')
  return state
}

/** One guard per case, in the order of the specification; what passes is unspent or spent within the window. */
async function requireFresh(
  core: Core,
  presented: RefreshToken,
  state: TokenState,
  origin: Origin,
  isOwn = false,
): Promise<void> {
  if (state.sessionRevoked) throw new Problem('refresh_token_revoked')
  if (!state.userIsActive) throw new Problem('refresh_token_user_disabled')
  if (state.sessionExpired || state.tokenExpired) throw new Problem('refresh_token_expired')
  if (state.headGeneration === presented.generation || state.withinGrace || isOwn) return
  // RFC 9700 §4.14.2: a spent token that comes back tells of a theft, and the whole session ends.
  const ended = await core.db.row(revokeReusedSession, { ...origin, sessionId: presented.sessionId })
  if (ended) core.counters.sessionsRevoked('reuse', 1)
  throw new Problem('refresh_token_reused')
}

/** The same successor again, for a client that lost the answer or a second tab; nothing is written. */
function replay(core: Core, presented: RefreshToken, state: TokenState): RefreshToken {
  const { headGeneration, successorSalt, successorDigest } = state
  // The head is still on this token although it was not rotated: the row changed between the two looks.
  if (headGeneration === presented.generation)
    throw new Problem('unavailable', { cause: 'rotation: raced', headers: { 'retry-after': '1' } })
  if (headGeneration !== presented.generation + 1 || !successorSalt || !successorDigest)
    throw new Problem('refresh_token_superseded')
  const token = core.successorKeys
    .map((key) => successorOf(presented, successorSalt, key))
    .find(({ secret }) => timingSafeEqual(digestOf(secret), successorDigest))
  if (!token) throw new Problem('refresh_token_superseded', { cause: 'rotation: the key changed within the window' })
  return token
}

function parse(text: string): RefreshToken {
  const token = parseRefreshToken(text)
  if (!token) throw new Problem('refresh_token_invalid')
  return token
}

function pairOf(core: Core, { userId, roles, sessionExpiresAt }: Grant, token: RefreshToken): TokenPair {
  const { sessionId } = token
  return {
    ...core.accessTokens.sign({ userId, roles, sessionId, sessionExpiresAt }),
    refreshToken: formatRefreshToken(token),
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

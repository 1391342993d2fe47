import type { Origin } from '#src/db/audit-events.ts'
import { refreshTokenState } from '#src/db/refresh-tokens.ts'
import { type Account, userById } from '#src/db/users.ts'
import { Problem } from '#src/problem.ts'
import type { Core } from './core.ts'
import { logOutByRefreshToken } from './rotation.ts'
import { authenticate, endOneSession } from './sessions.ts'
import { type AccessClaims, digestOf, parseRefreshToken } from './tokens.ts'

/** What is known of a token that stands (RFC 7662 §2.2), or that it does not. */
export type TokenStatus =
  | { readonly active: false }
  | {
      readonly active: true
      readonly account: Account
      readonly tokenType: 'Bearer' | 'refresh_token'
      readonly sessionId: string
      /** Seconds since 1970. */
      readonly expiresAt: number
      readonly claims?: AccessClaims
    }

/** Tells whether an access or refresh token would be accepted now; a fault of the database is no answer but an error. */
export async function introspect(core: Core, token: string): Promise<TokenStatus> {
  try {
    return token.startsWith('lkr_') ? await refreshTokenStatus(core, token) : await accessTokenStatus(core, token)
  } catch (error) {
    if (error instanceof Problem && error.status === 401) return { active: false }
    throw error
  }
}

/** Ends the session of a token (RFC 7009 §2.1); one that is not known or has ended already is fine. */
export async function revoke(core: Core, token: string, origin: Origin): Promise<void> {
  try {
    if (token.startsWith('lkr_')) return await logOutByRefreshToken(core, token, 'local', origin)
    const { account, sessionId } = await authenticate(core, token)
    await endOneSession(core, { userId: account.id, sessionId, reason: 'logout' }, origin)
  } catch (error) {
    if (!(error instanceof Problem && error.status === 401)) throw error
  }
}

async function accessTokenStatus(core: Core, token: string): Promise<TokenStatus> {
  const { account, ...claims } = await authenticate(core, token)
  const { sessionId, expiresAt } = claims
  return { active: true, account, tokenType: 'Bearer', sessionId, expiresAt, claims }
}

async function refreshTokenStatus(core: Core, text: string): Promise<TokenStatus> {
  const token = parseRefreshToken(text)
  if (!token) return { active: false }
  const { sessionId, generation } = token
  const state = await core.db.row(refreshTokenState, {
    sessionId,
    generation,
    digest: digestOf(token.secret),
    graceSeconds: core.lifetimes.refreshGraceSeconds,
  })
  if (!state || state.sessionRevoked || state.sessionExpired || state.tokenExpired || !state.userIsActive)
    return { active: false }
  if (state.headGeneration !== generation) return { active: false }
  const account = await core.db.row(userById, { id: state.userId })
  if (!account) return { active: false }
  const expiresAt = Math.floor(state.tokenExpiresAt.getTime() / 1000)
  return { active: true, account, tokenType: 'refresh_token', sessionId, expiresAt }
}

import { type Account, userById } from '#src/features/accounts/accounts.sql.ts'
import { Problem } from '#src/problem.ts'
import type { Core } from '#src/features/core.ts'
import { authenticate } from '#src/features/sessions/authenticate.ts'
import { logOutByAccessToken, logOutByRefreshToken } from '#src/features/sessions/logout.ts'
import { type Sender, standingOf, stateOf } from '#src/features/sessions/rotation.ts'
import { type AccessClaims, parseRefreshToken } from './tokens.ts'

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
export async function revoke(core: Core, token: string, sender: Sender): Promise<void> {
  try {
    if (token.startsWith('lkr_')) return await logOutByRefreshToken(core, token, 'local', sender)
    await logOutByAccessToken(core, token, 'local', sender)
  } catch (error) {
    if (!(error instanceof Problem && error.status === 401)) throw error
  }
}

async function accessTokenStatus(core: Core, token: string): Promise<TokenStatus> {
  const { account, ...claims } = await authenticate(core, token)
  const { sessionId, expiresAt } = claims
  return { active: true, account, tokenType: 'Bearer', sessionId, expiresAt, claims }
}

/** Active is what `/refresh` would take now: unspent, or a retry that would get its successor again. */
async function refreshTokenStatus(core: Core, text: string): Promise<TokenStatus> {
  const token = parseRefreshToken(text)
  if (!token) return { active: false }
  const { sessionId } = token
  const state = await stateOf(core, token)
  const standing = standingOf(core, token, state)
  if (standing === 'superseded' || standing === 'reused') return { active: false }
  const account = await core.db.row(userById, { id: state.userId })
  if (!account) return { active: false }
  const expiresAt = Math.floor(state.tokenExpiresAt.getTime() / 1000)
  return { active: true, account, tokenType: 'refresh_token', sessionId, expiresAt }
}

import type { Core } from '#src/features/core.ts'
import type { Account } from '#src/features/accounts/accounts.sql.ts'
import type { AccessClaims } from '#src/features/tokens/tokens.ts'
import { Problem } from '#src/problem.ts'

/** An access token that was accepted, with the user as the database knows them now. */
export interface Authentication extends AccessClaims {
  readonly account: Account
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

import type { Origin } from '#src/db/audit-events.ts'
import { Problem } from '#src/problem.ts'
import type { Core } from './core.ts'
import { logOutByRefreshToken } from './rotation.ts'
import { logOutByAccessToken, type LogoutScope } from './sessions.ts'

export interface HeldTokens {
  readonly accessToken: string | undefined
  readonly refreshToken: string | undefined
}

/** Ends sessions by the access token or, when that does not do, by the refresh token; throws a 401 `Problem`. */
export async function logOutByEither(
  core: Core,
  { accessToken, refreshToken }: HeldTokens,
  scope: LogoutScope,
  origin: Origin,
): Promise<void> {
  try {
    if (accessToken === undefined) throw new Problem('token_missing')
    await logOutByAccessToken(core, accessToken, scope, origin)
  } catch (error) {
    if (refreshToken === undefined || !(error instanceof Problem) || error.status !== 401) throw error
    await logOutByRefreshToken(core, refreshToken, scope, origin)
  }
}

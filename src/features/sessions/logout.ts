import { Problem } from '#src/problem.ts'
import type { Core } from '#src/features/core.ts'
import { logOutByRefreshToken, type Sender } from './rotation.ts'
import { logOutByAccessToken, type LogoutScope } from './sessions.ts'

export interface HeldTokens {
  readonly accessToken: string | undefined
  readonly refreshToken: string | undefined
}

/**
 * Ends the sessions of each token that is presented, for they may be of two sessions; throws a 401 `Problem` when none of
 * them could be used.
 */
export async function logOutByEither(
  core: Core,
  { accessToken, refreshToken }: HeldTokens,
  scope: LogoutScope,
  sender: Sender,
): Promise<void> {
  const attempts = [
    accessToken === undefined ? undefined : () => logOutByAccessToken(core, accessToken, scope, sender),
    refreshToken === undefined ? undefined : () => logOutByRefreshToken(core, refreshToken, scope, sender),
  ].filter((attempt) => attempt !== undefined)
  const refusals: Problem[] = []
  for (const attempt of attempts)
    await attempt().catch((error: unknown) => {
      if (!(error instanceof Problem) || error.status !== 401) throw error
      refusals.push(error)
    })
  if (refusals.length === attempts.length) throw refusals.at(-1) ?? new Problem('token_missing')
}

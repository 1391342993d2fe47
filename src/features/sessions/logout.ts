import type { Core } from '#src/features/core.ts'
import type { Origin } from '#src/features/audit/audit.sql.ts'
import { Problem } from '#src/problem.ts'
import { requireStanding } from './authenticate.ts'
import { endReusedSession, parsePresented, type Sender, standingOf, stateOf } from './rotation.ts'
import { confirmEnd, endSession, endSessions } from './sessions.sql.ts'

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

export type LogoutScope = 'global' | 'local' | 'others'

/** Ends sessions by a refresh token, for a client whose access token has expired; throws as `refresh` does. */
export async function logOutByRefreshToken(
  core: Core,
  text: string,
  scope: LogoutScope,
  sender: Sender,
): Promise<void> {
  const presented = parsePresented(text)
  const state = await stateOf(core, presented)
  if (state.sessionRevoked) return requireEnded(core, { userId: state.userId, sessionId: presented.sessionId })
  if (standingOf(core, presented, state) === 'reused') await endReusedSession(core, presented, sender)
  await logOut(core, { userId: state.userId, sessionId: presented.sessionId }, scope, sender)
}

/** Logs out by an access token; one whose session has ended already changes nothing. Throws `token_…`. */
export async function logOutByAccessToken(
  core: Core,
  accessToken: string,
  scope: LogoutScope,
  origin: Origin,
): Promise<void> {
  const claims = await core.accessTokens.verify(accessToken)
  try {
    await requireStanding(core, claims)
  } catch (error) {
    if (error instanceof Problem && hasEnded.has(error.code)) return requireEnded(core, claims)
    throw error
  }
  await logOut(core, claims, scope, origin)
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

/** What an attempt before has ended may not be on the standbys yet, and a failover would take it back: `unavailable` until it is. */
async function requireEnded(
  core: Core,
  session: { readonly userId: number; readonly sessionId: string },
): Promise<void> {
  const found = await core.db.row(confirmEnd, session)
  if (found?.ended === false) throw new Problem('unavailable', { headers: { 'retry-after': '1' } })
}

/** Ends one session of the user; resolves to whether there was one that had not ended. */
export async function endOneSession(
  core: Core,
  session: { userId: number; sessionId: string; reason: 'logout' | 'session_ended' },
  origin: Origin,
): Promise<boolean> {
  const ended = await core.db.row(endSession, { ...origin, ...session })
  if (ended) core.counters.sessionsRevoked(session.reason, 1)
  else await requireEnded(core, session)
  return ended !== undefined
}

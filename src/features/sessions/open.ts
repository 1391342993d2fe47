import { randomUUIDv7 } from 'node:crypto'
import type { Core } from '#src/features/core.ts'
import type { Origin } from '#src/features/audit/audit.sql.ts'
import { type AccessToken, digestOf, firstRefreshToken, formatRefreshToken } from '#src/features/tokens/tokens.ts'
import { insertSession } from './sessions.sql.ts'

export interface TokenPair extends AccessToken {
  readonly refreshToken: string
  /** Of the refresh token; with both, replies can be put in order. */
  readonly sessionId: string
  readonly generation: number
}

/** Who is logged in, as they were when it was proven, and how they were known. */
export interface Login {
  readonly user: { readonly id: number; readonly roles: readonly string[]; readonly sessionEpoch: number }
  readonly amr: readonly string[]
}

/** Opens a session; `undefined` when all of the user's sessions were ended since the proof, or the user is disabled. */
export async function openSession(core: Core, { user, amr }: Login, origin: Origin): Promise<TokenPair | undefined> {
  const sessionId = randomUUIDv7()
  const refreshToken = firstRefreshToken(sessionId)
  const opened = await core.db.row(insertSession, {
    ...origin,
    sessionId,
    userId: user.id,
    epoch: user.sessionEpoch,
    amr,
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

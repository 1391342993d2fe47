import type { Core } from '#src/features/core.ts'
import { sessionsOfUser, type SessionSummary } from './sessions.sql.ts'

/** The user's sessions that still stand, last used first. */
export function listSessions(core: Core, userId: number): Promise<SessionSummary[]> {
  return core.db.rows(sessionsOfUser, { userId })
}

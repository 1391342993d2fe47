import DataLoader from 'dataloader'
import { Budget } from '#src/db/budget.ts'
import type { Database } from '#src/db/database.ts'
import type { AccessClaims } from '#src/features/tokens/tokens.ts'
import { isUnsupported } from '#src/db/faults.ts'
import { type SessionState, sessionState, sessionStates } from './sessions.sql.ts'

/**
 * Reads the states of sessions; requests that arrive in one turn of the event loop share a query, none a result. A shared
 * query has a budget of its own, or the first of them would lend it what is left of its; each pays for it. Where the
 * database refuses to share, as one that spreads its rows over machines does, each asks for itself.
 */
export function makeSessionStates(db: Database): SessionStates {
  let canShare = true

  const read = async (asked: readonly Asked[]) => {
    if (asked.length > 1 && canShare)
      try {
        return await together(asked)
      } catch (error) {
        if (!isUnsupported(error)) throw error
        canShare = false
      }
    return Promise.all(asked.map((one) => alone(one).catch((error: Error) => error)))
  }

  async function together(asked: readonly Asked[]): Promise<Array<SessionState | undefined>> {
    const states = Array.from<SessionState | undefined>({ length: asked.length })
    const sessionIds = asked.map(({ claims }) => claims.sessionId)
    const userIds = asked.map(({ claims }) => claims.userId)
    const budget = Budget.sharedBy(asked)
    try {
      const rows = await budget.run(() => db.rows(sessionStates, { sessionIds, userIds }))
      for (const { place, ...state } of rows) states[place - 1] = state
    } finally {
      budget.settle()
    }
    return states
  }

  async function alone({ claims: { sessionId, userId }, payer }: Asked): Promise<SessionState | undefined> {
    return payer.run(() => db.row(sessionState, { sessionId, userId }))
  }

  const batchScheduleFn = (run: () => void) => setImmediate(run)
  const loader = new DataLoader(read, { cache: false, maxBatchSize: 200, batchScheduleFn })
  return { load: (claims) => loader.load({ claims, payer: Budget.current ?? new Budget() }) }
}

type SessionClaims = Pick<AccessClaims, 'sessionId' | 'userId'>
interface Asked {
  readonly claims: SessionClaims
  readonly payer: Budget
}
export interface SessionStates {
  readonly load: (claims: SessionClaims) => Promise<SessionState | undefined>
}

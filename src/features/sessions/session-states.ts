import DataLoader from 'dataloader'
import { Budget } from '#src/db/budget.ts'
import type { Database } from '#src/db/database.ts'
import type { AccessClaims } from '#src/features/tokens/tokens.ts'
import { type SessionState, sessionStates } from './sessions.sql.ts'

/**
 * Reads the states of sessions; requests that arrive in one turn of the event loop share a query, none a result. The
 * query has a budget of its own, or the first of them would lend it what is left of its; each pays for it.
 */
export function makeSessionStates(db: Database): SessionStates {
  const read = async (asked: ReadonlyArray<Asked>) => {
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
  const batchScheduleFn = (run: () => void) => setImmediate(run)
  const loader = new DataLoader(read, { cache: false, maxBatchSize: 200, batchScheduleFn })
  return { load: (claims) => loader.load({ claims, payer: Budget.current }) }
}

type SessionClaims = Pick<AccessClaims, 'sessionId' | 'userId'>
interface Asked {
  readonly claims: SessionClaims
  readonly payer: Budget | undefined
}
export interface SessionStates {
  readonly load: (claims: SessionClaims) => Promise<SessionState | undefined>
}

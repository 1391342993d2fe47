import DataLoader from 'dataloader'
import { Budget } from '#src/db/budget.ts'
import type { Database } from '#src/db/database.ts'
import type { Core } from '#src/features/core.ts'
import type { Account } from '#src/features/accounts/accounts.sql.ts'
import type { AccessClaims } from '#src/features/tokens/tokens.ts'
import { Problem } from '#src/problem.ts'
import { type SessionState, sessionStates } from './sessions.sql.ts'

/** An access token that was accepted, with the user as the database knows them now. */
export interface Authentication extends AccessClaims {
  readonly account: Account
}

/**
 * Reads the states of sessions; requests that arrive in one turn of the event loop share a query, none a result. The
 * query has a budget of its own, or the first of them would lend it what is left of its; each pays for it.
 */
export function makeSessionStates(db: Database): SessionStates {
  const read = async (asked: ReadonlyArray<Asked>) => {
    const states = Array.from<SessionState | undefined>({ length: asked.length })
    const sessionIds = asked.map(({ claims }) => claims.sessionId)
    const userIds = asked.map(({ claims }) => claims.userId)
    const budget = new Budget()
    try {
      const rows = await budget.run(() => db.rows(sessionStates, { sessionIds, userIds }))
      for (const { place, ...state } of rows) states[place - 1] = state
    } finally {
      for (const { payer } of asked) payer?.pay(budget)
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

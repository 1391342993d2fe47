import { Budget } from './budget.ts'
import { Database } from './database.ts'
import { reachable } from './reachable.sql.ts'

/** Load balancers ask again within seconds, so they are told sooner than a request is, in milliseconds. */
const patienceMs = 1500

/** Asks whether the database can be used, on a connection of its own: an instance that is busy need not be taken out. */
export function openProbe(databaseUrl: string): { reach: () => Promise<void>; close: () => Promise<void> } {
  const db = new Database(databaseUrl, 1)
  return {
    reach: async () => {
      await new Budget(patienceMs).run(() => db.rows(reachable, {}))
    },
    close: () => db.close(),
  }
}

import { setTimeout } from 'node:timers/promises'
import { connectAlone } from '#src/db/connect-alone.ts'
import { Database } from '#src/db/database.ts'
import { makeCounters } from '#src/features/counters.ts'
import { sweep } from '#src/features/sessions/sweep.ts'
import type { Side } from './large.ts'
import { median } from './report.ts'

const seconds = 4
const rounds = [1, 2, 3]
/** So old is what the sweep takes here: of the tokens that `writeRows` writes about two thirds. */
const days = 1

export interface Swept {
  /** Tokens deleted in a second. */
  readonly perSecond: number
  /** Milliseconds to the end of the first batch of tokens; none when it failed. */
  readonly firstBatchMs: number | undefined
  readonly faults: string[]
}

/** Runs the service's own sweep of a database for so many seconds, or to its end. */
export async function sweepFor(url: string, options: { days: number; seconds: number }): Promise<Swept> {
  const db = new Database(url, 1)
  const started = performance.now()
  let deleted = 0
  let firstBatchMs: number | undefined
  const onSwept = (table: string, count = 1) => {
    if (table !== 'refresh_tokens') return
    deleted += count
    // What is left of deleted users is swept before, and there are none.
    if (count > 0) firstBatchMs ??= performance.now() - started
  }
  const counters = makeCounters(({ name }) => (name === 'auth_sweep_deleted_total' ? onSwept : () => {}))
  const faults: string[] = []
  const onFault = (error: unknown) => void faults.push(reasonOf(error))
  const signal = AbortSignal.timeout(options.seconds * 1000)
  await sweep({ db, counters }, { days: options.days, auditDays: 365, onFault, signal })
  const perSecond = (deleted * 1000) / (performance.now() - started)
  await db.close()
  return { perSecond, firstBatchMs, faults }
}

/** The sweep alone, and beside refreshes as fast as they come; each is the median of three. */
export async function measureSweep({ url, load }: Side) {
  const results: { alone: Swept; beside: Swept; refreshes: number; refreshesAlone: number }[] = []
  for (const _ of rounds) {
    const alone = await sweepFor(url, { days, seconds })
    const refreshesAlone = (await load(seconds)).perSecond
    // The load warms up for half a second.
    const loading = load(seconds)
    await setTimeout(500)
    const beside = await sweepFor(url, { days, seconds })
    results.push({ alone, beside, refreshes: (await loading).perSecond, refreshesAlone })
  }
  const of = (read: (result: (typeof results)[number]) => number) => median(results.map(read))
  return {
    sweptAlone: of(({ alone }) => alone.perSecond),
    refreshedAlone: of(({ refreshesAlone }) => refreshesAlone),
    sweptBeside: of(({ beside }) => beside.perSecond),
    refreshedBeside: of(({ refreshes }) => refreshes),
    firstBatchMs: results.flatMap(({ alone, beside }) => [alone.firstBatchMs, beside.firstBatchMs]),
    faults: results.flatMap(({ alone, beside }) => [...alone.faults, ...beside.faults]),
    again: await startAgain(url),
  }
}

/** How long a sweep takes to its first batch that begins with what earlier ones have left to be vacuumed. */
async function startAgain(url: string) {
  const sql = connectAlone(url)
  const [row] = await sql<{ dead: number }[]>`
    select n_dead_tup::float8 as dead from pg_stat_user_tables where relname = 'refresh_tokens'`
  await sql.end()
  const [first, second] = [await sweepFor(url, { days, seconds: 1 }), await sweepFor(url, { days, seconds: 1 })]
  return { dead: row?.dead, firstBatchMs: [first.firstBatchMs, second.firstBatchMs] }
}

/** What the database said of it. */
function reasonOf(error: unknown): string {
  const { cause } = error as { cause?: unknown }
  return cause instanceof Error ? cause.message : String(error)
}

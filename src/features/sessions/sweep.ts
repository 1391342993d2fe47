import { sweepAuditEvents } from '#src/features/audit/audit.sql.ts'
import type { Statement } from '#src/db/statement.ts'
import {
  sweepDeletedUsers,
  sweepEventsOfDeleted,
  sweepMailsOfDeleted,
  sweepSessionsOfDeleted,
  sweepTokensOfDeleted,
} from '#src/features/accounts/deleted-users.sql.ts'
import { sweepMailQuotas, sweepOneTimeTokens, sweepOutbox } from '#src/features/mail/outbox.sql.ts'
import { sweepPending } from '#src/features/login/pending.sql.ts'
import { liveSessionCount } from './sessions.sql.ts'
import { clearEndedUsers, markEndedSessions, sweepRefreshTokens, sweepSessions, type TokenPlace } from './sweep.sql.ts'
import { userCount } from '#src/features/accounts/accounts.sql.ts'
import type { Core } from '#src/features/core.ts'
import type { SweptTable } from './sweep.metrics.ts'

const batchSize = 1000
/** Rows that are counted at once. */
const partSize = 10_000
const firstId = '00000000-0000-0000-0000-000000000000'

export interface SweepOptions {
  /** Retention of tokens, sessions and mails. */
  readonly days: number
  readonly auditDays: number
  /** Hears of a part that failed; the others go on. */
  readonly onFault?: (error: unknown) => void
  /** Stops between two batches. */
  readonly signal?: AbortSignal
}

type Swept = Pick<Core, 'db' | 'counters'>
type Step = () => Promise<void>

/** Deletes what is older than the retention (days), in batches; safe on many instances at once. Each table for itself. */
export async function sweep(core: Swept, options: SweepOptions): Promise<void> {
  const { onFault = () => {}, signal } = options
  let isWhole = true
  for (const step of steps(core, options)) {
    if (signal?.aborted) return
    await step().catch((error: unknown) => {
      isWhole = false
      onFault(error)
    })
  }
  if (isWhole && !signal?.aborted) core.counters.sweepFinished(Date.now() / 1000)
}

function steps(core: Swept, options: SweepOptions): Step[] {
  const { days, auditDays } = options
  const table = <Input extends object>(
    name: SweptTable,
    statement: Statement<Input, { deleted: number }>,
    input: Input,
  ): Step =>
    untilEmpty(options, async () => {
      const { deleted = 0 } = (await core.db.row(statement, input)) ?? {}
      core.counters.swept(name, deleted)
      return deleted
    })
  return [
    // Marked first: their retention begins now.
    untilEmpty(options, async () => (await core.db.row(markEndedSessions, {}))?.marked ?? 0),
    async () => void (await core.db.rows(clearEndedUsers, {})),
    // Tokens before sessions, so that a session that goes takes no more than its last token with it.
    table('refresh_tokens', sweepTokensOfDeleted, {}),
    table('sessions', sweepSessionsOfDeleted, {}),
    table('audit_events', sweepEventsOfDeleted, {}),
    table('outbox', sweepMailsOfDeleted, {}),
    table('users', sweepDeletedUsers, {}),
    () => sweepTokens(core, options),
    table('sessions', sweepSessions, { days }),
    table('outbox', sweepOutbox, { days }),
    table('one_time_tokens', sweepOneTimeTokens, {}),
    table('auth_sessions', sweepPending, {}),
    table('mail_quotas', sweepMailQuotas, {}),
    table('audit_events', sweepAuditEvents, { days: auditDays }),
    () => count(core, options),
  ]
}

/** Goes once through all tokens past the retention, in the order of their issue: some of them stay. */
async function sweepTokens({ db, counters }: Swept, { days, signal }: SweepOptions): Promise<void> {
  let after: TokenPlace = { issuedAt: '-infinity', sessionId: firstId, generation: 0 }
  for (;;) {
    const batch = await db.row(sweepRefreshTokens, { days, ...after })
    if (!batch) return
    const { deleted, idleSessions, seen, ...last } = batch
    counters.swept('refresh_tokens', deleted)
    counters.swept('sessions', idleSessions)
    if (seen < batchSize || signal?.aborted || last.issuedAt === null) return
    after = last as TokenPlace
  }
}

/** The gauges of what there is: counted here, so that no scrape has to. */
async function count({ db, counters }: Swept, { signal }: SweepOptions): Promise<void> {
  const countedUsers = await sumParts(0, (after) => db.row(userCount, { after }), signal)
  if (countedUsers !== undefined) counters.users(countedUsers)
  const live = await sumParts(firstId, (after) => db.row(liveSessionCount, { after }), signal)
  if (live !== undefined) counters.liveSessions(live)
}

/** Counts in parts, because a table may be too large for the limit of one statement; `undefined` when it was stopped. */
async function sumParts<Id>(
  first: Id,
  countPart: (after: Id) => Promise<{ count: number; seen: number; last: Id | null } | undefined>,
  signal?: AbortSignal,
): Promise<number | undefined> {
  let sum = 0
  let after = first
  for (;;) {
    if (signal?.aborted) return undefined
    const part = await countPart(after)
    sum += part?.count ?? 0
    if (!part || part.seen < partSize || part.last === null) return sum
    after = part.last
  }
}

function untilEmpty({ signal }: SweepOptions, batch: () => Promise<number>): Step {
  return async () => {
    for (;;) if ((await batch()) < batchSize || signal?.aborted) return
  }
}

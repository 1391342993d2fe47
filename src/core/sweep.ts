import { sweepAuditEvents } from '#src/db/audit-events.ts'
import { sweepOneTimeTokens, sweepOutbox } from '#src/db/outbox.ts'
import { sweepRefreshTokens } from '#src/db/refresh-tokens.ts'
import { sweepSessions } from '#src/db/sessions.ts'
import type { Core } from './core.ts'

const batchSize = 1000

export interface Retention {
  readonly days: number
  readonly auditDays: number
}

/** Deletes what is older than the retention (days), in batches; safe on many instances at once. */
export async function sweep(core: Pick<Core, 'db' | 'counters'>, { days, auditDays }: Retention): Promise<void> {
  // Tokens first, so that a session that goes takes no more than its last token with it.
  let after = '-infinity'
  for (;;) {
    const batch = await core.db.row(sweepRefreshTokens, { days, after })
    core.counters.swept('refresh_tokens', batch?.deleted ?? 0)
    if (!batch?.last || batch.seen < batchSize) break
    after = batch.last
  }
  await untilEmpty(core, 'sessions', async () => (await core.db.row(sweepSessions, { days }))?.deleted ?? 0)
  await untilEmpty(core, 'outbox', async () => (await core.db.row(sweepOutbox, { days }))?.deleted ?? 0)
  await untilEmpty(core, 'one_time_tokens', async () => (await core.db.row(sweepOneTimeTokens, {}))?.deleted ?? 0)
  await untilEmpty(
    core,
    'audit_events',
    async () => (await core.db.row(sweepAuditEvents, { days: auditDays }))?.deleted ?? 0,
  )
}

async function untilEmpty(
  core: Pick<Core, 'counters'>,
  table: 'sessions' | 'outbox' | 'one_time_tokens' | 'audit_events',
  batch: () => Promise<number>,
) {
  let deleted: number
  do {
    deleted = await batch()
    core.counters.swept(table, deleted)
  } while (deleted === batchSize)
}

import { counter } from '#src/metric.ts'
import { revokeReasons } from './revoke-reasons.ts'

const refreshOutcomes = [
  'rotated',
  'replayed',
  'late',
  'superseded',
  'reused',
  'invalid',
  'expired',
  'revoked',
  'unavailable',
] as const

/** What became of a refresh. */
export type RefreshOutcome = (typeof refreshOutcomes)[number]

/** What is counted of sessions. */
export const sessionMetrics = {
  refresh: counter('auth_refresh_total', 'Refresh requests by outcome.', 'outcome', refreshOutcomes),
  sessionsRevoked: counter(
    'auth_sessions_revoked_total',
    'Sessions ended before their time, by reason.',
    'reason',
    revokeReasons,
  ),
}

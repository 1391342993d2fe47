import { counter, gauge } from '#src/metric.ts'

const sweptTables = [
  'mail_quotas',
  'refresh_tokens',
  'sessions',
  'users',
  'audit_events',
  'outbox',
  'one_time_tokens',
  'auth_sessions',
] as const

export type SweptTable = (typeof sweptTables)[number]

/** What the sweep counts. */
export const sweepMetrics = {
  swept: counter('auth_sweep_deleted_total', 'Rows deleted by the sweep, by table.', 'table', sweptTables),
  users: gauge('auth_users', 'Users, as the last sweep counted them.'),
  liveSessions: gauge('auth_sessions_live', 'Sessions that stand, as the last sweep counted them.'),
  sweepFinished: gauge(
    'auth_last_sweep_timestamp_seconds',
    'When a sweep of this instance last came to its end; none with SWEEP=off.',
  ),
}

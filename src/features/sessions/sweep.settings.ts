import { group, setting, switchedOn, whole } from '#src/settings.ts'

/** How long is kept what is of no use any more. */
export const sweepSettings = group({
  days: setting('RETENTION_DAYS', whole(1, 3650, 7), {
    says: 'how long spent refresh tokens and ended sessions are kept',
  }),
  auditDays: setting('AUDIT_RETENTION_DAYS', whole(1, 3650, 365), { says: 'how long audit events are kept' }),
  on: switchedOn('SWEEP', { says: '`off`: this instance does not delete what has outlived its retention' }),
})

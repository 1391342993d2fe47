import { counter } from '#src/metric.ts'

/** What is counted of logins. */
export const loginMetrics = {
  login: counter('auth_logins_total', 'Logins by outcome.', 'outcome', [
    'succeeded',
    'failed',
    'disabled',
    'unverified',
    'unavailable',
  ]),
}

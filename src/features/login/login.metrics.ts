import { counter } from '#src/metric.ts'

export const loginMetrics = {
  login: counter('auth_logins_total', 'Logins by outcome.', 'outcome', [
    'succeeded',
    'failed',
    'disabled',
    'unverified',
    'unavailable',
  ]),
}

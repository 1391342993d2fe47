import { counter, histogram } from '#src/metric.ts'

/** What is measured where passwords are hashed. */
export const passwordMetrics = {
  gateRefused: counter(
    'auth_password_gate_refused_total',
    'Password checks refused with 503, because too many waited.',
  ),
  passwordHashed: histogram('auth_password_hash_seconds', 'Time to compute one password hash.'),
  gateWaited: histogram('auth_password_gate_wait_seconds', 'Time that a password check waited for its turn.'),
}

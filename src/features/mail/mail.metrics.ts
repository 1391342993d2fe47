import { counter } from '#src/metric.ts'

export const mailMetrics = {
  mail: counter('auth_mail_total', 'Attempts to send a mail, by outcome.', 'outcome', ['sent', 'retried', 'abandoned']),
}

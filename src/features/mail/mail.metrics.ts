import { counter } from '#src/metric.ts'

/** What is counted of mails. */
export const mailMetrics = {
  mail: counter('auth_mail_total', 'Attempts to send a mail, by outcome.', 'outcome', ['sent', 'retried', 'abandoned']),
}

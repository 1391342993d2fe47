import { loginMetrics } from '#src/features/login/login.metrics.ts'
import { passwordMetrics } from '#src/features/login/passwords.metrics.ts'
import { mailMetrics } from '#src/features/mail/mail.metrics.ts'
import { sessionMetrics } from '#src/features/sessions/sessions.metrics.ts'
import { sweepMetrics } from '#src/features/sessions/sweep.metrics.ts'
import type { Measure, Metric } from '#src/metric.ts'

/** What the use cases count, as each subject declares it. */
const metrics = { ...loginMetrics, ...sessionMetrics, ...mailMetrics, ...sweepMetrics, ...passwordMetrics }

export type Counters = { readonly [K in keyof typeof metrics]: Measure<(typeof metrics)[K]> }

/** Makes the counters; `measure` makes the function that counts one metric. */
export function makeCounters(measure: (metric: Metric) => (...values: never[]) => void): Counters {
  const counters = Object.entries<Metric>(metrics).map(([name, metric]) => [name, measure(metric)])
  return Object.fromEntries(counters) as Counters
}

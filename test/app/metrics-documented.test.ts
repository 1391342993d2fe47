import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { makeCounters } from '#src/features/counters.ts'
import type { Metric } from '#src/metric.ts'
import { startService } from '#test/support/service.ts'

/** The label of each metric with the values that it is declared with. */
const labels = new Map<string, string>()
makeCounters((metric: Metric) => {
  if (metric.kind === 'counter' && metric.label !== undefined)
    labels.set(metric.name, `\`${metric.label}\`: ${metric.values.map((value) => `\`${value}\``).join(', ')}`)
  return () => {}
})

test('docs/operations.md lists every metric of the service with its labels and its meaning', async () => {
  const { app } = await startService({ RATE_LIMITS: 'on', SWEEP: 'on', REDIS_URL: 'redis://127.0.0.1:1' })
  const own = app.metricsRegistry.getMetricsAsArray().filter(({ name }) => /^(auth|latchkey)_/.test(name))
  const real = own.map((metric) => {
    const names = 'labelNames' in metric ? (metric.labelNames as string[]).map((name) => `\`${name}\``) : []
    return `| \`${metric.name}\` | ${labels.get(metric.name) ?? (names.join(', ') || '–')} | ${metric.help} |`
  })
  const text = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8')
  const documented = text.split('\n').filter((line) => /^\| `(auth|latchkey)_/.test(line))
  expect(documented.toSorted((a, b) => a.localeCompare(b))).toEqual(real.toSorted((a, b) => a.localeCompare(b)))
})

import prom from '@platformatic/prom-client'
import metrics from 'fastify-metrics'
import fp from 'fastify-plugin'
import { type Counters, makeCounters } from '#src/features/counters.ts'
import type { CounterMetric, Metric } from '#src/metric.ts'
import packageJson from '../../package.json' with { type: 'json' }

declare module 'fastify' {
  interface FastifyInstance {
    counters: Counters
    metricsRegistry: InstanceType<typeof prom.Registry>
  }
}

const buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5]

/** Prometheus metrics of HTTP, Node and the use cases; a registry of its own, so that two apps fit in one process. */
export default fp(
  async (app) => {
    const register = new prom.Registry()
    const registers = [register]
    new prom.Gauge({
      name: 'latchkey_build_info',
      help: 'Always 1; the labels tell what runs.',
      labelNames: ['version', 'node'],
      registers,
    }).set({ version: packageJson.version, node: process.versions.node }, 1)
    app.decorate('metricsRegistry', register)
    app.decorate(
      'counters',
      makeCounters((metric) => measureOf(metric, registers)),
    )

    await app.register(metrics.default, {
      promClient: { ...prom, register } as never,
      endpoint: null,
      defaultMetrics: { enabled: true, register: register as never },
      routeMetrics: {
        enabled: { histogram: true, summary: false },
        registeredRoutesOnly: false,
        invalidRouteGroup: 'unknown',
        overrides: {
          labels: { getRouteLabel: ({ is404, routeOptions }) => (is404 ? 'unknown' : (routeOptions.url ?? 'unknown')) },
          histogram: { buckets, registers: registers as never, help: 'Time to answer a request.' },
          summary: { registers: registers as never },
        },
      },
    })
    // Kept out: the empty summary, and gauges whose names break Prometheus' conventions (`_total` is for counters).
    register.removeSingleMetric('http_request_summary_seconds')
    for (const kind of ['handles', 'requests', 'resources']) register.removeSingleMetric(`nodejs_active_${kind}_total`)
  },
  { name: 'metrics', dependencies: ['errors'] },
)

type Registers = InstanceType<typeof prom.Registry>[]

/** Registers a metric of the use cases; returns what counts it. */
function measureOf(metric: Metric, registers: Registers): (...values: never[]) => void {
  const { name, help } = metric
  if (metric.kind === 'counter') return counterOf(metric, registers)
  if (metric.kind === 'gauge') {
    const gauge = new prom.Gauge({ name, help, registers })
    return (value) => gauge.set(value)
  }
  const histogram = new prom.Histogram({ name, help, buckets, registers })
  return (seconds) => histogram.observe(seconds)
}

function counterOf({ name, help, label, values }: CounterMetric, registers: Registers) {
  if (label === undefined) {
    const counter = new prom.Counter({ name, help, registers })
    return () => counter.inc()
  }
  const counter = new prom.Counter({ name, help, labelNames: [label], registers })
  for (const value of values) counter.inc({ [label]: value }, 0)
  return (value: string, count = 1) => counter.inc({ [label]: value }, count)
}

import prom from '@platformatic/prom-client'
import fp from 'fastify-plugin'
import { Problem } from '#src/problem.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Throws `unavailable` while the service closes or its database is away; takes 2 seconds at most. */
    requireReady: () => Promise<void>
  }
}

/** Knows whether the service can serve: for `/ready`, and as a gauge for whoever is scraped and not probed. */
export default fp(
  async (app) => {
    const requireReady = async () => {
      if (app.isDraining()) throw new Problem('unavailable', { cause: 'closing', headers: { 'retry-after': '5' } })
      await app.reachDatabase()
    }
    app.decorate('requireReady', requireReady)
    app.metricsRegistry.registerMetric(
      new prom.Gauge({
        name: 'auth_ready',
        help: 'Whether the instance could serve (1) or not (0) when it was scraped, as /ready says.',
        registers: [],
        async collect() {
          await requireReady().then(
            () => this.set(1),
            () => this.set(0),
          )
        },
      }),
    )
  },
  { name: 'readiness', dependencies: ['db', 'draining', 'metrics'] },
)

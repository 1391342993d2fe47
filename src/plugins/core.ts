import prom from '@platformatic/prom-client'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '#src/config.ts'
import { composeCore, type CoreSettings } from '#src/features/compose.ts'
import type { Core } from '#src/features/core.ts'
import { makeLimits } from '#src/features/limits.ts'
import { makePasswords } from '#src/features/login/passwords.ts'
import { sweepMetrics } from '#src/features/sessions/sweep.metrics.ts'
import { sweep } from '#src/features/sessions/sweep.ts'

declare module 'fastify' {
  interface FastifyInstance {
    core: Core
  }
}

type CoreOptions = CoreSettings & Pick<Config, 'passwords' | 'sweep'>

const firstSweepMs = 60_000
const sweepEveryMs = 10 * 60_000

/** Puts the domain together as `app.core`, and sweeps what has outlived its retention. */
export default fp<CoreOptions>(
  async (app, options) => {
    const passwords = makePasswords(options.passwords, {
      ...app.counters,
      hashUnusable: () => app.log.warn('a stored password hash cannot be used'),
    })
    await passwords.prepare()
    const { db, accessTokens, counters, log } = app
    const wakeMailer = () => app.mailer?.kick()
    const limits = makeLimits(app.counter)
    app.decorate('core', composeCore(options, { db, passwords, accessTokens, limits, counters, log, wakeMailer }))

    const registers = [app.metricsRegistry]
    const gauge = (name: string, help: string, read: () => number) =>
      new prom.Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(read())
        },
      })
    gauge('auth_password_gate_running', 'Password hashes being computed.', () => passwords.gate.running)
    gauge('auth_password_gate_waiting', 'Password checks waiting for their turn.', () => passwords.gate.waiting)
    gauge('auth_database_connections_in_use', 'Connections of the pool in use.', () => app.db.inUse)
    gauge('auth_database_connections_max', 'Connections that the pool may open.', () => app.db.size)
    gauge('auth_database_statements_waiting', 'Statements waiting for a connection.', () => app.db.queued)

    if (options.sweep.on) scheduleSweep(app, options.sweep)
    // Or an instance that is not to sweep would look like one whose sweep never comes to its end.
    else app.metricsRegistry.removeSingleMetric(sweepMetrics.sweepFinished.name)
  },
  { name: 'core', dependencies: ['db', 'jwt', 'metrics', 'mail', 'rate-limit'] },
)

/** Sweeps soon after the start and then every ten minutes, each time a little off, so that instances do not meet. */
function scheduleSweep(app: FastifyInstance, { days, auditDays }: Config['sweep']): void {
  const stopping = new AbortController()
  const onFault = (error: unknown) => app.log.warn({ err: error }, 'a part of the sweep failed')
  let running = Promise.resolve()
  let timer: NodeJS.Timeout
  const plan = (ms: number) => {
    timer = setTimeout(
      () => {
        // The next one is planned when this one has ended: never two at once.
        running = sweep(app.core, { days, auditDays, onFault, signal: stopping.signal }).then(() => plan(sweepEveryMs))
      },
      ms * (0.5 + Math.random()),
    ).unref()
  }
  plan(firstSweepMs)
  app.addHook('onClose', async () => {
    stopping.abort()
    clearTimeout(timer)
    await running
    clearTimeout(timer)
  })
}

import prom from '@platformatic/prom-client'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '#src/config.ts'
import type { Core } from '#src/core/core.ts'
import { makeLimits } from '#src/core/limits.ts'
import { makePasswords } from '#src/core/passwords.ts'
import { makeSessionStates } from '#src/core/sessions.ts'
import { sweep } from '#src/core/sweep.ts'
import { deriveKey } from '#src/core/tokens.ts'

declare module 'fastify' {
  interface FastifyInstance {
    core: Core
  }
}

type CoreOptions = Pick<
  Config,
  | 'argon2'
  | 'refreshTokenSeconds'
  | 'sessionSeconds'
  | 'refreshGraceSeconds'
  | 'refreshLateRetries'
  | 'sessionsPerUser'
  | 'secretKeyPrevious'
  | 'requireVerifiedEmail'
  | 'sweep'
  | 'retentionDays'
  | 'auditRetentionDays'
> & { readonly secretKey: string }

const firstSweepMs = 60_000
const sweepEveryMs = 10 * 60_000

/** Puts the domain together as `app.core`, and sweeps what has outlived its retention. */
export default fp<CoreOptions>(
  async (app, options) => {
    const { secretKey, secretKeyPrevious } = options
    const passwords = await makePasswords(options.argon2, {
      ...app.counters,
      hashUnusable: () => app.log.warn('a stored password hash cannot be used'),
    })
    const secrets = [secretKey, ...(secretKeyPrevious ? [secretKeyPrevious] : [])]
    app.decorate(
      'core',
      Object.freeze<Core>({
        db: app.db,
        sessionStates: makeSessionStates(app.db),
        passwords,
        accessTokens: app.accessTokens,
        successorKeys: secrets.map((secret) => deriveKey(secret, 'refresh-successor')),
        lifetimes: lifetimesOf(options),
        mail: {
          oneTimeKeys: secrets.map((secret) => deriveKey(secret, 'one-time-token')),
          requireVerifiedEmail: options.requireVerifiedEmail,
          queued: () => app.mailer?.kick(),
        },
        limits: makeLimits(app.counter),
        counters: app.counters,
        log: app.log,
      }),
    )

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

    if (options.sweep) scheduleSweep(app, options)
  },
  { name: 'core', dependencies: ['db', 'jwt', 'metrics', 'mail', 'rate-limit'] },
)

function lifetimesOf({
  refreshTokenSeconds,
  sessionSeconds,
  refreshGraceSeconds,
  ...rest
}: CoreOptions): Core['lifetimes'] {
  const { refreshLateRetries, sessionsPerUser } = rest
  return { refreshTokenSeconds, sessionSeconds, refreshGraceSeconds, refreshLateRetries, sessionsPerUser }
}

/** Sweeps soon after the start and then every ten minutes, each time a little off, so that instances do not meet. */
function scheduleSweep(
  app: FastifyInstance,
  { retentionDays: days, auditRetentionDays: auditDays }: CoreOptions,
): void {
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

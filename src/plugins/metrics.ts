import { timingSafeEqual } from 'node:crypto'
import prom from '@platformatic/prom-client'
import type { FastifyRequest } from 'fastify'
import metrics from 'fastify-metrics'
import fp from 'fastify-plugin'
import type { Config } from '#src/config.ts'
import type { Counters } from '#src/features/core.ts'
import { digestOf } from '#src/features/tokens/tokens.ts'
import { Problem } from '#src/problem.ts'
import packageJson from '../../package.json' with { type: 'json' }
import { onceASecond } from '#src/once-a-second.ts'

declare module 'fastify' {
  interface FastifyInstance {
    counters: Counters
    metricsRegistry: InstanceType<typeof prom.Registry>
  }
}

const buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5]
const revokeReasons = [
  'logout',
  'reuse',
  'password_change',
  'password_reset',
  'session_ended',
  'limit',
  'disabled',
  'admin',
] as const
const loginOutcomes = ['succeeded', 'failed', 'disabled', 'unverified', 'unavailable'] as const
const mailOutcomes = ['sent', 'retried', 'abandoned'] as const
const refreshOutcomes = [
  'rotated',
  'replayed',
  'late',
  'superseded',
  'reused',
  'invalid',
  'expired',
  'revoked',
  'unavailable',
] as const

/** Prometheus metrics of HTTP, Node and the use cases; a registry of its own, so that two apps fit in one process. */
export default fp<Config['metrics']>(
  async (app, { access, token }) => {
    const register = new prom.Registry()
    const registers = [register]
    const counter = (name: string, help: string, label: string) =>
      new prom.Counter({ name, help, labelNames: [label], registers })
    const histogram = (name: string, help: string) => new prom.Histogram({ name, help, buckets, registers })

    const logins = counter('auth_logins_total', 'Logins by outcome.', 'outcome')
    const refreshes = counter('auth_refresh_total', 'Refresh requests by outcome.', 'outcome')
    const revoked = counter('auth_sessions_revoked_total', 'Sessions ended before their time, by reason.', 'reason')
    const mails = counter('auth_mail_total', 'Attempts to send a mail, by outcome.', 'outcome')
    const swept = counter('auth_sweep_deleted_total', 'Rows deleted by the sweep, by table.', 'table')
    const gauge = (name: string, help: string) => new prom.Gauge({ name, help, registers })
    const users = gauge('auth_users', 'Users, as the last sweep counted them.')
    const live = gauge('auth_sessions_live', 'Sessions that stand, as the last sweep counted them.')
    const lastSweep = gauge('auth_last_sweep_timestamp_seconds', 'When a sweep of this instance last came to its end.')
    const refused = new prom.Counter({
      name: 'auth_password_gate_refused_total',
      help: 'Password checks refused with 503, because too many waited.',
      registers,
    })
    const hashed = histogram('auth_password_hash_seconds', 'Time to compute one password hash.')
    const waited = histogram('auth_password_gate_wait_seconds', 'Time that a password check waited for its turn.')
    new prom.Gauge({
      name: 'latchkey_build_info',
      help: 'Always 1; the labels tell what runs.',
      labelNames: ['version', 'node'],
      registers,
    }).set({ version: packageJson.version, node: process.versions.node }, 1)
    // A series that exists from the start can be alerted on.
    for (const outcome of loginOutcomes) logins.inc({ outcome }, 0)
    for (const outcome of mailOutcomes) mails.inc({ outcome }, 0)
    for (const reason of revokeReasons) revoked.inc({ reason }, 0)
    for (const outcome of refreshOutcomes) refreshes.inc({ outcome }, 0)

    app.decorate('metricsRegistry', register)
    app.decorate('counters', {
      login: (outcome) => logins.inc({ outcome }),
      refresh: (outcome) => refreshes.inc({ outcome }),
      sessionsRevoked: (reason, count) => revoked.inc({ reason }, count),
      mail: (outcome) => mails.inc({ outcome }),
      swept: (table, count) => swept.inc({ table }, count),
      sweepFinished: () => lastSweep.setToCurrentTime(),
      users: (count) => users.set(count),
      liveSessions: (count) => live.set(count),
      passwordHashed: (seconds) => hashed.observe(seconds),
      gateWaited: (seconds) => waited.observe(seconds),
      gateRefused: () => refused.inc(),
    } satisfies Counters)

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

    if (access === 'off') return
    const text = onceASecond(() => register.metrics())
    const options = { schema: { hide: true }, logLevel: 'warn', config: { access: 'public' } } as const
    app.get('/metrics', options, async (request, reply) => {
      if (access === 'on') requireToken(request, token)
      return reply.type(register.contentType).send(await text())
    })
  },
  { name: 'metrics', dependencies: ['errors'] },
)

/** RFC 6750 §3.1. A token that is not configured is one that nobody has. */
function requireToken({ headers: { authorization } }: FastifyRequest, token: string | undefined): void {
  if (authorization === undefined) throw new Problem('token_missing')
  const digests = [authorization, `Bearer ${token}`].map((text) => digestOf(Buffer.from(text))) as [Buffer, Buffer]
  if (token === undefined || !timingSafeEqual(...digests)) throw new Problem('token_invalid')
}

import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { addressOf, networkOf } from '#src/address.ts'
import type { Config } from '#src/config.ts'
import type { Counted, Counter } from '#src/features/limits.ts'
import { authenticate } from '#src/routes/authenticate.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** A backend asks about a token: it is counted as the client it is, or as the session, never by its address. */
    checksTokens?: boolean
    /** Set for a route behind `authenticate`, which counts its requests. */
    countedBySession?: boolean
  }
  interface FastifyRequest {
    countedAs: { key: string; counted: Counted } | null
  }
  interface FastifyInstance {
    /** Counts a request on a route behind `authenticate`: by its session, or, if it has none, by its address. */
    countRequest: (request: FastifyRequest, sessionId?: string) => Promise<void>
  }
}

const uncountedPaths = new Set(['/health', '/ready', '/metrics'])

/** The limit on every request: of an address (IPv6: /64), of a session whose token was verified, or of a backend. */
export default fp<Pick<Config['limits'], 'on'>>(
  async (app, { on }) => {
    if (!on) return void app.decorate('countRequest', async () => {})
    const { perMinute } = app
    const requests = app.counter({ name: 'requests', max: perMinute.requests, per: 60 })
    const checks = app.counter({ name: 'checks', max: perMinute.checks, per: 60 })

    app.decorateRequest('countedAs', null)
    app.decorate('countRequest', async (request, sessionId) => {
      const { checksTokens = false } = request.routeOptions.config
      if (sessionId !== undefined) await take(checksTokens ? checks : requests, `session ${sessionId}`)
      else if (!checksTokens) await take(requests, networkOf(addressOf(request)))
    })
    app.addHook('onRoute', (route) => {
      if ([route.onRequest].flat().includes(authenticate)) route.config = { ...route.config, countedBySession: true }
    })

    app.addHook('onRequest', async (request) => {
      const { url = '', config } = request.routeOptions
      if (!uncountedPaths.has(url) && config.countedBySession !== true) await countSender(request)
    })
    // A client that authenticates by fields of the body is known only now; it was counted by its address until here.
    app.addHook('preValidation', async (request) => {
      if (request.client === null || request.countedAs?.key === senderKeyOf(request)) return
      await request.countedAs?.counted.giveBack()
      if (request.countedAs) await countSender(request)
    })

    async function countSender(request: FastifyRequest): Promise<void> {
      const key = senderKeyOf(request)
      request.countedAs = { key, counted: await take(isCheckOfClient(request) ? checks : requests, key) }
    }
  },
  { name: 'request-limit', dependencies: ['rate-limit', 'address'] },
)

function isCheckOfClient({ client, routeOptions }: FastifyRequest): boolean {
  return client !== null && routeOptions.config.checksTokens === true
}

function senderKeyOf(request: FastifyRequest): string {
  return isCheckOfClient(request) ? `client ${request.client}` : networkOf(addressOf(request))
}

async function take(counter: Counter, key: string): Promise<Counted> {
  const counted = await counter.count(key)
  if (counted.exceeded) throw counted.refusal()
  return counted
}

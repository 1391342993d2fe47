import prom from '@platformatic/prom-client'
import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance, FastifyRequest, preHandlerAsyncHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '#src/config.ts'
import { type Counter, type Limit, uncounted } from '#src/features/limits.ts'
import { Problem } from '#src/problem.ts'
import { type Counters, countersInMemory, type Tally } from './counters-in-memory.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Makes a route hook that refuses with 429 what goes beyond a limit. */
    limit: (limit: Limit & { by: (request: FastifyRequest) => string }) => preHandlerAsyncHookHandler
    /** Makes the counter of a limit whose keys a request alone does not tell. */
    counter: (limit: Limit) => Counter
    /** The numbers that a deployment sets. */
    perMinute: Config['limits']['perMinute']
  }
}

/** Keys that are remembered at once, of all limits together; about 25 MB. */
const rememberedKeys = 100_000

/** Counts requests in memory or in Redis; who is counted stands beside each route and use case. */
export default fp<Config['limits']>(
  async (app, { on, redisUrl, perMinute }) => {
    const counters = await openCounters(app, on ? redisUrl : undefined)
    await app.register(rateLimit, { global: false, store: storeOn(counters) })
    const refused = new prom.Counter({
      name: 'auth_rate_limited_total',
      help: 'Requests refused with 429, by limit.',
      labelNames: ['limit'],
      registers: [app.metricsRegistry],
    })

    const known = new Map<string, Limit>()
    /** Several routes may share a limit, if they mean the same by its name. */
    const requireOneMeaning = ({ name, max, per }: Limit) => {
      const { max: knownMax, per: knownPer } = known.get(name) ?? { max, per }
      if (knownMax !== max || knownPer !== per) throw new Error(`the limit ${name} is defined twice, differently`)
      if (!known.has(name)) refused.inc({ limit: name }, 0)
      known.set(name, { name, max, per })
    }
    const refusal = (limit: Limit, ttl: number) => {
      refused.inc({ limit: limit.name })
      return tooManyRequests(limit, ttl)
    }

    app.decorate('perMinute', perMinute)
    app.decorate('limit', ({ by, ...limit }) => {
      if (!on) return async () => {}
      requireOneMeaning(limit)
      const { name, max, per } = limit
      const options = { name, max, timeWindow: per * 1000, keyGenerator: by }
      const check = app.createRateLimit(options)
      return async (request) => {
        const result = await check(request)
        if ('isExceeded' in result && result.isExceeded) throw refusal(limit, result.ttl)
      }
    })
    app.decorate('counter', (limit) => {
      if (!on) return uncounted()
      requireOneMeaning(limit)
      const standing = ({ ttl }: Tally, exceeded: boolean) => ({ exceeded, refusal: () => refusal(limit, ttl) })
      return {
        count: async (key) => {
          const tally = await counters.count(limit, key)
          return { ...standing(tally, tally.current > limit.max), giveBack: () => counters.giveBack(limit, key) }
        },
        isFull: async (key) => {
          const tally = await counters.read(limit, key)
          return standing(tally, tally.current >= limit.max)
        },
      }
    })
  },
  { name: 'rate-limit', dependencies: ['errors', 'metrics'] },
)

/** The 429 of a limit, with the fields of draft-ietf-httpapi-ratelimit-headers-11. */
function tooManyRequests({ name, max, per }: Limit, ttl: number): Problem {
  const seconds = Math.max(1, Math.ceil(ttl / 1000))
  return new Problem('too_many_requests', {
    headers: {
      'retry-after': String(seconds),
      ratelimit: `"${name}";r=0;t=${seconds}`,
      'ratelimit-policy': `"${name}";q=${max};w=${per}`,
    },
  })
}

/** In Redis when there is one and it answers, otherwise in memory. */
async function openCounters(app: FastifyInstance, redisUrl: string | undefined): Promise<Counters> {
  const inMemory = countersInMemory(rememberedKeys)
  if (redisUrl === undefined) return inMemory
  // Loaded only here: a start without it is quicker.
  const { connectRedis, countersInRedis, firstOf } = await import('./counters-in-redis.ts')
  const redis = connectRedis(redisUrl)
  let isUp: boolean | undefined
  const tell = (up: boolean) => {
    if (up === isUp) return
    isUp = up
    if (up) app.log.info('requests are counted in Redis')
    else app.log.warn('Redis is away; requests are counted in memory')
  }
  redis.on('ready', () => tell(true))
  redis.on('error', () => tell(false))
  redis.on('close', () => tell(false))
  app.addHook('onClose', async () => {
    isUp = false
    redis.disconnect()
  })
  app.metricsRegistry.registerMetric(
    new prom.Gauge({
      name: 'auth_redis_up',
      help: 'Whether limits are counted in Redis (1) or, because it is away, in memory (0).',
      registers: [],
      collect() {
        this.set(redis.status === 'ready' ? 1 : 0)
      },
    }),
  )
  return firstOf(countersInRedis(redis), inMemory)
}

type Done = (error: Error | null, tally?: Tally) => void

/** The store of @fastify/rate-limit; a limit names itself in the options of its child. */
function storeOn(counters: Counters) {
  return class Store {
    readonly name: string
    constructor({ name = 'requests' }: { name?: string }) {
      this.name = name
    }
    incr(key: string, done: Done, timeWindow: number, max: number) {
      const { name } = this
      counters.count({ name, max, per: timeWindow / 1000 }, key).then(
        (tally) => done(null, tally),
        (error: Error) => done(error),
      )
    }
    child(options: object) {
      return new Store(options)
    }
  }
}

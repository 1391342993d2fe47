import { createHash } from 'node:crypto'
import rateLimit, { normalizeIP } from '@fastify/rate-limit'
import LocalStore from '@fastify/rate-limit/store/LocalStore.js'
import RedisStore from '@fastify/rate-limit/store/RedisStore.js'
import type { FastifyRequest, preHandlerAsyncHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { Redis } from 'ioredis'
import type { Config } from '#src/config.ts'
import { Problem } from '#src/problem.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by `limit.forgot`: the address has been sent enough links, and who asks is not to know. */
    isOverMailQuota: boolean
  }
  interface FastifyInstance {
    /** Hooks for the route line; each refuses with 429 once its limits are passed. */
    limit: Record<'login' | 'registration' | 'refresh' | 'password' | 'forgot' | 'reset', preHandlerAsyncHookHandler>
  }
}

const minute = 60_000
/** Keys that are remembered at once; only requests within the limit of their address can add one of another kind. */
const rememberedKeys = 100_000

/** Limits by address (IPv6: /64) on every request, by address and account on the costly ones; in memory or Redis. */
export default fp<Pick<Config, 'rateLimits' | 'redisUrl'>>(
  async (app, { rateLimits: on, redisUrl }) => {
    const redis = on && redisUrl !== undefined ? connect(redisUrl) : undefined
    if (redis) {
      redis.on('error', () => app.log.warn('Redis is away; requests are counted in memory'))
      app.addHook('onClose', async () => redis.disconnect())
    }
    await app.register(rateLimit, { global: false, store: storeOn(redis) })

    const limiter = (name: string, max: number, timeWindow: number, keyOf: (request: FastifyRequest) => string) => {
      const check = app.createRateLimit({
        max,
        timeWindow,
        cache: rememberedKeys,
        keyGenerator: (request) => `${name}:${keyOf(request)}`,
      } as Parameters<typeof app.createRateLimit>[0])
      return async (request: FastifyRequest): Promise<number> => {
        const result = await check(request)
        return 'isExceeded' in result && result.isExceeded ? result.ttlInSeconds : 0
      }
    }

    const requests = limiter('requests', 3000, minute, addressOf)
    const logins = limiter('login', 50, minute, addressOf)
    const loginPairs = limiter(
      'login-pair',
      10,
      5 * minute,
      (request) => `${addressOf(request)}:${loginNameOf(request)}`,
    )
    const loginNames = limiter('login-name', 100, 60 * minute, loginNameOf)
    // While an account is under attack from everywhere each address has two tries left: enough for its owner.
    const besieged = limiter(
      'login-besieged',
      2,
      5 * minute,
      (request) => `${addressOf(request)}:${loginNameOf(request)}`,
    )
    const registrations = limiter('registration', 60, 10 * minute, addressOf)
    const refreshes = limiter('refresh', 300, minute, addressOf)
    const sessionRefreshes = limiter('refresh-session', 60, minute, refreshSessionOf)
    const passwordChecks = limiter('password', 10, 5 * minute, (request) => String(request.auth?.account.id))
    const passwordAddresses = limiter('password-address', 50, minute, addressOf)

    const forgots = limiter('forgot', 20, 10 * minute, addressOf)
    const mailboxes = limiter('forgot-mailbox', 5, 60 * minute, (request) => digestOfField(request, 'email'))
    const resets = limiter('reset', 30, 10 * minute, addressOf)

    const guard =
      (...checks: Array<(request: FastifyRequest) => Promise<number>>): preHandlerAsyncHookHandler =>
      async (request) => {
        if (!on) return
        for (const check of checks) refuse(await check(request))
      }
    app.decorateRequest('isOverMailQuota', false)
    app.decorate('limit', {
      login: guard(logins, loginPairs, async (request) => ((await loginNames(request)) > 0 ? besieged(request) : 0)),
      registration: guard(registrations),
      refresh: guard(refreshes, sessionRefreshes),
      password: guard(passwordAddresses, passwordChecks),
      forgot: guard(forgots, async (request) => {
        request.isOverMailQuota = (await mailboxes(request)) > 0
        return 0
      }),
      reset: guard(resets),
    })

    const unlimited = new Set(['/health', '/ready', '/metrics'])
    if (on)
      app.addHook('onRequest', async (request) => {
        if (!unlimited.has(request.routeOptions.url ?? '')) refuse(await requests(request))
      })
  },
  { name: 'rate-limit', dependencies: ['errors'] },
)

function refuse(seconds: number): void {
  if (seconds > 0) throw new Problem('too_many_requests', { headers: { 'retry-after': String(seconds) } })
}

function addressOf({ ip }: FastifyRequest): string {
  return normalizeIP(ip, 64)
}

function fieldOf({ body }: FastifyRequest, name: string): string {
  const value: unknown = typeof body === 'object' && body !== null ? Reflect.get(body, name) : undefined
  return typeof value === 'string' ? value : ''
}

function loginNameOf(request: FastifyRequest): string {
  return digestOfField(request, 'username')
}

/** A digest, because names are of any length and belong in no store. */
function digestOfField(request: FastifyRequest, name: string): string {
  return createHash('sha256').update(fieldOf(request, name).toLowerCase()).digest('base64url')
}

function refreshSessionOf(request: FastifyRequest): string {
  const inCookie = Object.values(request.cookies).find((value) => value?.startsWith('lkr_'))
  return (fieldOf(request, 'refresh_token') || inCookie || '').slice(0, 26) || addressOf(request)
}

/** Answers or fails at once: a Redis that is away must not hold requests up. */
function connect(url: string): Redis {
  return new Redis(url, {
    maxRetriesPerRequest: 1,
    enableOfflineQueue: false,
    connectTimeout: 500,
    commandTimeout: 200,
    retryStrategy: (attempt) => Math.min(attempt * 100, 2000),
  })
}

type Done = (error: Error | null, result?: { current: number; ttl: number }) => void

/** Counts in Redis when there is one and it answers, otherwise in memory. */
function storeOn(redis: Redis | undefined) {
  return class Store {
    readonly local: LocalStore
    readonly shared: RedisStore | undefined
    constructor({ cache = 5000 }: { cache?: number }) {
      this.local = new LocalStore(false, false, cache)
      this.shared = redis && new RedisStore(false, false, redis, 'latchkey:limit:')
    }
    incr(key: string, done: Done, timeWindow: number, max: number) {
      // A copy: the store goes on counting in the object that it hands out.
      const inMemory = () =>
        this.local.incr(key, (error, result) => done(error, result && { ...result }), timeWindow, max)
      if (!this.shared) return inMemory()
      this.shared.incr(key, (error, result) => (error ? inMemory() : done(null, result)), timeWindow, max)
    }
    child(options: object) {
      return new Store(options)
    }
  }
}

import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import type { FastifyInstance } from 'fastify'
import { describe, expect, test } from 'vitest'
import { connectRedis, countersInRedis } from '#src/plugins/counters-in-redis.ts'
import { get, metric, password, post, refreshWith, signedUp } from '#test/support/actors.ts'
import { cleanUp } from '#test/support/clean-up.ts'
import { eventually } from '#test/support/mail.ts'
import { redisClient, standBetween, startRedis } from '#test/support/redis.ts'
import { type Service, startService } from '#test/support/service.ts'

const redisUrl = (await startRedis()) ?? ''
const proxy = { RATE_LIMITS: 'on', TRUSTED_PROXIES: '127.0.0.0/8' }
/** An address that nobody used before, also in a Redis that lives longer than the test. */
const newAddress = () => `2001:db8:${randomInt(4096, 65_536).toString(16)}:${randomInt(4096, 65_536).toString(16)}::1`
const logIn = async (app: FastifyInstance, username: string, secret: string, address: string) =>
  (await post(app, '/api/v1/token', { username, password: secret }, { 'x-forwarded-for': address })).statusCode
const isUp = (app: FastifyInstance) => metric(app, 'auth_redis_up')
const countingIn = async (url: string, settings = {}, database?: Service) => {
  const service = await startService({ ...proxy, REDIS_URL: url, ...settings }, database)
  await eventually(async () => (await isUp(service.app)) === 1 || undefined)
  return service
}
const inTurn = async (count: number, act: (i: number) => Promise<number>) => {
  const statuses: number[] = []
  for (let i = 0; i < count; i++) statuses.push(await act(i))
  return statuses
}

describe.skipIf(redisUrl === '')('limits in Redis (needs redis-server or TEST_REDIS_URL)', () => {
  test('are shared by two instances', async () => {
    const first = await countingIn(redisUrl)
    const second = await countingIn(redisUrl, {}, first)
    const { email } = await signedUp(first.app)
    const address = newAddress()
    const statuses = await inTurn(12, (i) => logIn((i % 2 ? first : second).app, email, 'wrong', address))
    expect(statuses.slice(9)).toEqual([401, 429, 429])
  })

  test('give back the logins that succeed, and count the wrong ones that are sent at once', async () => {
    const { app } = await countingIn(redisUrl)
    const { email } = await signedUp(app)
    const address = newAddress()
    expect(new Set(await inTurn(15, () => logIn(app, email, password, address)))).toEqual(new Set([200]))
    const statuses = await Promise.all(Array.from({ length: 20 }, () => logIn(app, email, 'wrong', address)))
    expect(statuses.filter((status) => status === 401)).toHaveLength(10)
  })

  test('give back one at a time, and keep no key for nothing', async () => {
    const connection = connectRedis(redisUrl)
    cleanUp(() => connection.disconnect())
    await once(connection, 'ready')
    const counters = countersInRedis(connection)
    const limit = { name: 'test', max: 10, per: 300 }
    const key = newAddress()
    for (let i = 0; i < 3; i++) await counters.count(limit, key)
    await counters.giveBack(limit, key)
    expect(await counters.read(limit, key)).toEqual({ current: 2, ttl: expect.any(Number) as number })
    for (let i = 0; i < 3; i++) await counters.giveBack(limit, key)
    expect(await counters.read(limit, key)).toEqual({ current: 0, ttl: 0 })
    expect(await redisClient(redisUrl).exists(`latchkey:limit:test:${key}`)).toBe(0)
  })

  test('look at the refreshes of a session without counting them', async () => {
    const { app } = await countingIn(redisUrl)
    const { tokens, refresh } = await signedUp(app)
    const madeUp = `${tokens.refresh_token.split('.')[0]}.0.${'A'.repeat(43)}`
    expect(new Set(await inTurn(70, async () => (await refreshWith(app, madeUp)).statusCode))).toEqual(new Set([401]))
    const statuses = await inTurn(61, async () => (await refresh()).statusCode)
    expect([statuses[59], statuses[60]]).toEqual([200, 429])
  })

  test('leave no key that stays for ever, and no name or address of a person', async () => {
    const { app } = await countingIn(redisUrl)
    const { email, refresh, me } = await signedUp(app)
    await logIn(app, email, 'wrong', newAddress())
    await logIn(app, 'nobody.has.this', 'wrong', newAddress())
    await refresh()
    await me()
    await post(app, '/api/v1/forgot-password', { email })
    const redis = redisClient(redisUrl)
    const keys = await redis.keys('latchkey:limit:*')
    expect(keys.length).toBeGreaterThan(5)
    expect(keys.join()).not.toMatch(/@|nobody/)
    const ttls = await Promise.all(keys.map((key) => redis.pttl(key)))
    expect(ttls.filter((ttl) => ttl === -1)).toEqual([])
  })
})

describe('a Redis that is away', () => {
  test('means counting in memory: no error, and still a limit', async () => {
    const { app } = await startService({ ...proxy, REDIS_URL: 'redis://127.0.0.1:1' })
    const { email } = await signedUp(app)
    const statuses = await inTurn(12, () => logIn(app, email, 'wrong password', newAddress()))
    expect(new Set(statuses)).toEqual(new Set([401]))
    const address = newAddress()
    expect(new Set(await inTurn(12, () => logIn(app, email, 'wrong', address)))).toEqual(new Set([401, 429]))
    expect(await isUp(app)).toBe(0)
  })
})

describe.skipIf(redisUrl === '')('a Redis that takes commands and answers none', () => {
  test('is sent three at most, then requests are counted in memory', async () => {
    const middleman = await standBetween(redisUrl)
    const { app } = await countingIn(middleman.url)
    middleman.freeze()
    const statuses = await inTurn(20, async () => (await get(app, '/nowhere')).statusCode)
    expect(new Set(statuses)).toEqual(new Set([404]))
    expect(middleman.commandsLost()).toBeGreaterThan(0)
    expect(middleman.commandsLost()).toBeLessThanOrEqual(3)
    expect(await isUp(app)).toBe(0)
  })

  test('is left for a new connection, which counts as soon as it answers', async () => {
    const middleman = await standBetween(redisUrl)
    const { app } = await countingIn(middleman.url, { LIMIT_REQUESTS_PER_MINUTE: '50' })
    middleman.freeze()
    await eventually(async () => (await get(app, '/nowhere')) && ((await isUp(app)) === 0 || undefined))
    const before = middleman.connections()
    middleman.thaw()
    await eventually(async () => (await isUp(app)) === 1 || undefined)
    expect(middleman.connections()).toBeGreaterThan(before)
    const address = newAddress()
    const ask = async () => (await app.inject({ url: '/nowhere', headers: { 'x-forwarded-for': address } })).statusCode
    expect((await inTurn(51, ask)).slice(49)).toEqual([404, 429])
    const keys = await redisClient(redisUrl).keys(`latchkey:limit:requests:${address.slice(0, -1)}*`)
    expect(keys).toHaveLength(1)
  })
})

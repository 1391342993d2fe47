import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { get, password, post, type Reply, signedUp } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const contracts = 'kanban,oauth,llm-optimizer:/llm,ai-chat:/chat,auth-signup:/signup,auth-register:/register'
const { app } = await startService({ RATE_LIMITS: 'on', TRUSTED_PROXIES: '127.0.0.0/8', CONTRACTS: contracts })

let addresses = 0
const from = (address = `203.0.113.${++addresses}`) => ({ 'x-forwarded-for': address })
const refusedAt = async (count: number, act: (i: number) => Promise<Reply>) => {
  for (let i = 1; i <= count; i++) if ((await act(i)).statusCode === 429) return i
  return undefined
}
const link = { token: 'lko_none', new_password: password }

describe('an address', () => {
  test.each([
    ['/api/v1/users/', 60, { email: 'a@example.com', password: 'x' }],
    ['/llm/register', 60, { email: 'a@example.com', password: 'x' }],
    ['/chat/register', 60, { name: 'A', username: 'a', password: 'x' }],
    ['/signup/auth/signup', 60, { username: 'a', email: 'a@example.com', password: 'x' }],
    ['/register/auth/register', 60, { username: 'a', email: 'a@example.com', password: 'x' }],
    ['/api/v1/reset-password', 30, link],
    ['/api/v1/verify-email', 30, { token: 'lko_none' }],
    ['/register/auth/reset-password/lko_none', 30, { new_password: password }],
    ['/account/reset-password', 30, link],
    ['/account/verify-email', 30, { token: 'lko_none' }],
    ['/api/v1/refresh', 300, { refresh_token: 'none' }],
    ['/llm/refresh', 300, { refresh_token: 'none' }],
    ['/signup/auth/refresh', 300, { refresh_token: 'none' }],
  ])('may send to %s %i times', async (url, max, body) => {
    const here = from()
    expect(await refusedAt(max + 1, () => post(app, url, body, here))).toBe(max + 1)
    expect((await post(app, url, body, from())).statusCode).not.toBe(429)
  })

  test('may send refresh tokens to /oauth/token 300 times', async () => {
    const here = { ...from(), 'content-type': 'application/x-www-form-urlencoded' }
    const act = () => post(app, '/oauth/token', 'grant_type=refresh_token&refresh_token=none', here)
    expect(await refusedAt(301, act)).toBe(301)
  })

  test.each(['/api/v1/forgot-password', '/register/auth/forgot-password'])('may ask %s 20 times', async (url) => {
    const here = from()
    const statuses = await Promise.all(
      Array.from({ length: 21 }, () => post(app, url, { email: `${randomUUID()}@example.com` }, here)),
    )
    expect(statuses.filter(({ statusCode }) => statusCode === 429)).toHaveLength(1)
  })
})

describe('a network', () => {
  const hosts = (network: string) => (i: number) => from(`${network}::${(i + 1).toString(16)}`)

  test('of IPv6 (/64) is one sender to a route, and the next one another', async () => {
    const act = (headers: Record<string, string>) => post(app, '/api/v1/verify-email', { token: 'lko_none' }, headers)
    const one = hosts('2001:db8:64:1')
    expect(await refusedAt(31, (i) => act(one(i)))).toBe(31)
    expect((await act(hosts('2001:db8:64:2')(1))).statusCode).toBe(400)
  })

  test('is one sender of requests, with an access token that is refused, too', async () => {
    const settings = { RATE_LIMITS: 'on', TRUSTED_PROXIES: '127.0.0.0/8', LIMIT_REQUESTS_PER_MINUTE: '10' }
    const { app: strict } = await startService(settings)
    for (const [n, headers] of [{}, { authorization: 'Bearer x.y.z' }].entries()) {
      const one = hosts(`2001:db8:64:1${n}`)
      const act = (i: number) => get(strict, '/api/v1/me', { ...headers, ...one(i) })
      expect(await refusedAt(11, act)).toBe(11)
      expect((await get(strict, '/api/v1/me', { ...headers, ...hosts(`2001:db8:64:2${n}`)(1) })).statusCode).toBe(401)
      expect((await get(strict, '/nowhere', one(12))).statusCode).toBe(429)
    }
  })
})

describe('a limit', () => {
  test('that is defined twice means the same by its name, or the service does not start', () => {
    const limit = { name: 'twice', max: 10, per: 60 }
    for (let time = 0; time < 2; time++) app.counter(limit)
    for (const other of [
      { ...limit, max: 11 },
      { ...limit, per: 61 },
    ]) {
      expect(() => app.counter(other)).toThrow('the limit twice is defined twice, differently')
      expect(() => app.limit({ ...other, by: () => 'anybody' })).toThrow('is defined twice')
    }
  })
})

describe('a confirmation by password', () => {
  const wrong = 'wrong password'
  const bodyOf = (path: string, password: string): object =>
    path === '/me/password'
      ? { current_password: password, new_password: `${randomUUID()} battery` }
      : path === '/me/email'
        ? { email: 'new@example.com', password }
        : { password }
  const confirm = (authorization: string, path: string, headers: Record<string, string>, secret = wrong) =>
    app.inject({
      method: path === '/me' ? 'DELETE' : 'POST',
      url: `/api/v1${path}`,
      headers: { authorization, ...headers },
      payload: bodyOf(path, secret),
    })
  const bearerOf = async () => `Bearer ${(await signedUp(app)).tokens.access_token}`

  test.each(['/me', '/me/password', '/me/email'])('at %s is limited by account, from all addresses', async (path) => {
    const authorization = await bearerOf()
    expect(await refusedAt(11, () => confirm(authorization, path, from()))).toBe(11)
    expect((await confirm(await bearerOf(), path, from())).statusCode).toBe(401)
  })

  test('is a guess only when it fails', async () => {
    const authorization = await bearerOf()
    const mail = () => confirm(authorization, '/me/email', from(), password)
    expect(await refusedAt(12, mail)).toBeUndefined()
    expect(await refusedAt(11, () => confirm(authorization, '/me', from()))).toBe(11)
  })

  test.each(['/me', '/me/password', '/me/email'])('at %s is limited by address, for all accounts', async (path) => {
    const accounts = await Promise.all(Array.from({ length: 6 }, bearerOf))
    const here = from()
    expect(await refusedAt(51, (i) => confirm(accounts[i % 6] ?? '', path, here))).toBe(51)
  })
})

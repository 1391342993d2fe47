import { describe, expect, test } from 'vitest'
import { form, formOf, get, password, post, signedUp } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const origin = 'https://app.example.com'
const { app } = await startService({ CORS_ORIGINS: `${origin},http://localhost:3000` })
const preflight = (from: string, method = 'POST') =>
  app.inject({
    method: 'OPTIONS',
    url: '/api/v1/token',
    headers: {
      origin: from,
      'access-control-request-method': method,
      'access-control-request-headers': 'authorization,content-type,x-token-transport',
    },
  })

describe('a preflight', () => {
  test.each([origin, 'http://localhost:3000'])(
    'from %s is answered for that origin, with credentials',
    async (from) => {
      const { statusCode, headers } = await preflight(from)
      expect(statusCode).toBe(204)
      expect(headers).toMatchObject({
        'access-control-allow-origin': from,
        'access-control-allow-credentials': 'true',
        'access-control-allow-methods': 'GET, POST, PATCH, DELETE',
        'access-control-allow-headers': 'authorization, content-type, x-token-transport',
      })
      expect(headers['vary']).toContain('Origin')
    },
  )

  test.each([
    'https://evil.example',
    `${origin}.evil.example`,
    'http://app.example.com',
    'null',
    'https://APP.example.com',
  ])('from %s allows nothing', async (from) => {
    expect((await preflight(from)).headers).not.toHaveProperty('access-control-allow-origin')
  })
})

describe('a path that does not exist', () => {
  test.each(['GET', 'POST', 'DELETE', 'PROPFIND'] as const)(
    'is a 404 for %s, also when origins are listed',
    async (method) => {
      const { statusCode, headers } = await app.inject({ method, url: '/nowhere' })
      expect([statusCode, headers['allow']]).toEqual([404, undefined])
    },
  )

  test('stays apart from a method that does not exist', async () => {
    const { statusCode, headers } = await app.inject({ method: 'PUT', url: '/api/v1/token' })
    expect([statusCode, headers['allow']]).toEqual([405, 'POST'])
  })
})

describe('an error', () => {
  test('can be read by a listed origin, and only by that', async () => {
    const listed = await get(app, '/api/v1/me', { origin })
    expect([listed.statusCode, listed.headers['access-control-allow-origin']]).toEqual([401, origin])
    expect(listed.headers['access-control-expose-headers']).toBe(
      'retry-after, ratelimit, ratelimit-policy, www-authenticate, x-request-id',
    )
    const other = await get(app, '/api/v1/me', { origin: 'https://evil.example' })
    expect(other.headers).not.toHaveProperty('access-control-allow-origin')
  })
})

describe('Cache-Control', () => {
  test('is no-store on everything that carries a token or a user, and on refusals', async () => {
    const { email, logIn, refresh, send } = await signedUp(app)
    const refused = post(app, '/api/v1/token', formOf({ username: email, password: 'wrong' }), form)
    const replies = await Promise.all([logIn(), refresh(), send('GET', '/me'), send('POST', '/validate'), refused])
    for (const { headers } of [...replies, await get(app, '/nowhere')])
      expect(headers['cache-control']).toBe('no-store')
  })
})

describe('X-Request-Id', () => {
  test('is made here, not taken from the client', async () => {
    const mine = '11111111-1111-4111-8111-111111111111'
    const [first, second] = [await get(app, '/health', { 'x-request-id': mine }), await get(app, '/health')]
    expect(first.headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/)
    expect(first.headers['x-request-id']).not.toBe(mine)
    expect(second.headers['x-request-id']).not.toBe(first.headers['x-request-id'])
  })
})

describe('Strict-Transport-Security', () => {
  test.each([
    [{}, undefined],
    [{ HSTS: 'on' }, 'max-age=31536000; includeSubDomains'],
    [{ ENVIRONMENT: 'production', PUBLIC_URL: 'https://a.example' }, 'max-age=31536000; includeSubDomains'],
    [{ ENVIRONMENT: 'production', PUBLIC_URL: 'https://a.example', HSTS: 'off' }, undefined],
  ])('with %j is %s', async (environment, expected) => {
    const service = await startService(environment)
    expect((await get(service.app, '/health')).headers['strict-transport-security']).toBe(expected)
  })
})

describe('Set-Cookie', () => {
  test('is sent to those only who ask for a cookie', async () => {
    const { email } = await signedUp(app)
    const login = await post(app, '/api/v1/token', { username: email, password })
    expect(login.headers).not.toHaveProperty('set-cookie')
  })
})

import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { form, formOf, get, password, post, type TokenReply } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const { app } = await startService({ CONTRACTS: 'auth-signup' })

const johndoe = { username: 'johndoe', email: 'johndoe@example.com' }
const user = { id: expect.any(Number) as number, ...johndoe, is_active: true }
const tokens = {
  access_token: expect.stringMatching(/^eyJ/) as string,
  refresh_token: expect.any(String) as string,
  token_type: 'bearer',
  expires_in: 1800,
}
const logIn = async () => (await post(app, '/auth/login', { username: 'johndoe', password })).json<TokenReply>()
const bearer = ({ access_token: token }: TokenReply) => ({ authorization: `Bearer ${token}` })
const logOut = (body: object | string, headers: Record<string, string> = {}) => post(app, '/auth/logout', body, headers)

describe('auth-signup', () => {
  test('POST /auth/signup registers a new user', async () => {
    const reply = await post(app, '/auth/signup', { ...johndoe, password })
    expect([reply.statusCode, reply.json()]).toEqual([200, user])
  })

  test.each([
    ['username', { email: 'another@example.com' }],
    ['email', { username: 'another' }],
  ])('POST /auth/signup answers 400 when the %s is already registered', async (field, change) => {
    const reply = await post(app, '/auth/signup', { ...johndoe, password, ...change })
    expect(reply.statusCode).toBe(400)
    expect(reply.json()).toMatchObject({ code: 'already_registered', errors: [{ pointer: `/${field}` }] })
  })

  test('POST /auth/login answers JSON with tokens', async () => {
    const reply = await post(app, '/auth/login', { username: 'johndoe', password })
    expect([reply.statusCode, reply.json()]).toEqual([200, tokens])
  })

  test('POST /auth/login takes a form too', async () => {
    const reply = await post(app, '/auth/login', formOf({ username: 'johndoe', password }), form)
    expect(reply.statusCode).toBe(200)
  })

  test('POST /auth/login answers 401 to incorrect credentials', async () => {
    const reply = await post(app, '/auth/login', { username: 'johndoe', password: 'wrong password' })
    expect(reply.statusCode).toBe(401)
  })

  test('POST /auth/refresh answers with new tokens, the refresh token among them', async () => {
    const { refresh_token: token } = await logIn()
    const reply = await post(app, '/auth/refresh', { refresh_token: token })
    expect([reply.statusCode, reply.json()]).toEqual([200, tokens])
    expect(reply.json<TokenReply>().refresh_token).not.toBe(token)
  })

  test('POST /auth/refresh answers 401 to an invalid token', async () => {
    expect((await post(app, '/auth/refresh', { refresh_token: 'eyJ.eyJ.x' })).statusCode).toBe(401)
  })

  test('GET /auth/me answers with the current user', async () => {
    const reply = await get(app, '/auth/me', bearer(await logIn()))
    expect([reply.statusCode, reply.json()]).toEqual([200, user])
    expect((await get(app, '/auth/me')).statusCode).toBe(401)
  })

  test.each([
    ['no token', '', {}],
    ['an empty body', {}, {}],
    ['an access token that is none', '', { authorization: 'Bearer x.y.z' }],
    ['a refresh token that is none', { refresh_token: randomUUID() }, {}],
  ])('POST /auth/logout says "Logout successful" with %s', async (_, body, headers) => {
    const reply = await logOut(body, headers)
    expect([reply.statusCode, reply.json()]).toEqual([200, { message: 'Logout successful' }])
  })

  test.each(['access token', 'refresh token', 'dead access token and a refresh token'])(
    'POST /auth/logout with an %s ends the sessions',
    async (held) => {
      const [first, second] = [await logIn(), await logIn()]
      const body = held.endsWith('refresh token') ? { refresh_token: first.refresh_token } : ''
      const headers = held === 'access token' ? bearer(first) : {}
      const dead = held.startsWith('dead') ? { authorization: 'Bearer x.y.z' } : {}
      expect((await logOut(body, { ...headers, ...dead })).json()).toEqual({ message: 'Logout successful' })
      for (const session of [first, second]) {
        expect((await get(app, '/auth/me', bearer(session))).statusCode).toBe(401)
        expect((await post(app, '/auth/refresh', { refresh_token: session.refresh_token })).statusCode).toBe(401)
      }
    },
  )

  test('lets the lifetimes of that service be set: 24 hours and 30 days', async () => {
    const settings = { ACCESS_TOKEN_EXPIRE_MINUTES: '1440', REFRESH_TOKEN_EXPIRE_DAYS: '30' }
    const { app: service } = await startService({ CONTRACTS: 'auth-signup', ...settings })
    await post(service, '/auth/signup', { ...johndoe, password })
    const reply = await post(service, '/auth/login', { username: 'johndoe', password })
    expect(reply.json<TokenReply>().expires_in).toBe(86_400)
  })
})

import { describe, expect, test } from 'vitest'
import { form, get, post, type TokenReply } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const { app } = await startService({ CONTRACTS: 'llm-optimizer' })

/** As the README of that service prints it. */
const register = {
  email: 'user@example.com',
  password: 'securepassword123',
  full_name: 'John Doe',
}
const login = 'username=user@example.com&password=securepassword123'

const logIn = async () => (await post(app, '/login', login, form)).json<TokenReply>()
const bearer = ({ access_token: token }: TokenReply) => ({ authorization: `Bearer ${token}` })

describe('llm-optimizer', () => {
  test('POST /register registers a new user', async () => {
    const reply = await post(app, '/register', register)
    expect(reply.statusCode).toBe(201)
    expect(reply.json()).toMatchObject({ id: expect.any(Number), email: 'user@example.com', full_name: 'John Doe' })
  })

  test('POST /register answers 409 for an e-mail address that is taken', async () => {
    const reply = await post(app, '/register', register)
    expect([reply.statusCode, reply.json<{ code: string }>().code]).toEqual([409, 'email_taken'])
  })

  test('POST /login returns access and refresh tokens', async () => {
    const reply = await post(app, '/login', login, form)
    expect(reply.statusCode).toBe(200)
    expect(reply.json()).toMatchObject({
      access_token: expect.stringMatching(/^eyJ/),
      refresh_token: expect.any(String),
      token_type: 'bearer',
    })
  })

  test('POST /login takes JSON too', async () => {
    const reply = await post(app, '/login', { username: 'user@example.com', password: 'securepassword123' })
    expect(reply.statusCode).toBe(200)
  })

  test('POST /refresh returns new tokens', async () => {
    const { refresh_token: token } = await logIn()
    const reply = await post(app, '/refresh', { refresh_token: token })
    expect(reply.statusCode).toBe(200)
    expect(reply.json()).toMatchObject({ access_token: expect.stringMatching(/^eyJ/), token_type: 'bearer' })
    expect(reply.json<TokenReply>().refresh_token).not.toBe(token)
  })

  test('GET /me answers with the current user', async () => {
    const reply = await get(app, '/me', bearer(await logIn()))
    expect(reply.statusCode).toBe(200)
    expect(reply.json()).toMatchObject({ email: 'user@example.com', full_name: 'John Doe' })
  })

  test('POST /logout logs the user out', async () => {
    const tokens = await logIn()
    const reply = await post(app, '/logout', '', bearer(tokens))
    expect([reply.statusCode, reply.json()]).toEqual([200, { message: 'Successfully logged out' }])
    expect((await get(app, '/me', bearer(tokens))).statusCode).toBe(401)
    expect((await post(app, '/refresh', { refresh_token: tokens.refresh_token })).statusCode).toBe(401)
  })

  test('POST /logout takes a refresh token in the body too, and answers 401 without any token', async () => {
    const tokens = await logIn()
    expect((await post(app, '/logout', { refresh_token: tokens.refresh_token })).statusCode).toBe(200)
    expect((await get(app, '/me', bearer(tokens))).statusCode).toBe(401)
    expect((await post(app, '/logout', {})).statusCode).toBe(401)
  })

  test.each(['/health', '/ready', '/metrics'])('GET %s answers', async (path) => {
    expect((await get(app, path)).statusCode).toBe(200)
  })

  test.each([['GET', '/me'] as const, ['POST', '/logout'] as const])('%s %s is protected', async (method, url) => {
    const reply = await app.inject({ method, url })
    expect([reply.statusCode, reply.headers['www-authenticate']]).toEqual([401, 'Bearer realm="latchkey"'])
  })
})

import { describe, expect, test } from 'vitest'
import { form, formOf, password, post, type TokenReply } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const { app } = await startService({ CONTRACTS: 'ai-chat' })

/** The README of that service prints `"string"` for every value; a password of six letters is not taken here. */
const register = {
  name: 'string',
  username: 'string',
  password,
}
const logIn = (fields: object = {}) => post(app, '/token', formOf({ username: 'string', password, ...fields }), form)

describe('ai-chat', () => {
  test('POST /register answers 201 with id, name and username, and nothing else', async () => {
    const reply = await post(app, '/register', register)
    expect([reply.statusCode, reply.json()]).toEqual([
      201,
      { id: expect.any(Number), name: 'string', username: 'string' },
    ])
  })

  test('POST /register answers 409 when the user already exists', async () => {
    const reply = await post(app, '/register', { ...register, username: 'String' })
    expect([reply.statusCode, reply.json<{ code: string }>().code]).toEqual([409, 'username_taken'])
  })

  test('POST /register refuses the placeholder password as too short', async () => {
    const reply = await post(app, '/register', { name: 'string', username: 'string', password: 'string' })
    expect([reply.statusCode, reply.json<{ code: string }>().code]).toEqual([400, 'password_unsuitable'])
  })

  test('POST /token answers a form with tokens', async () => {
    const reply = await logIn()
    expect(reply.statusCode).toBe(200)
    expect(reply.json()).toEqual({
      access_token: expect.stringMatching(/^eyJ/),
      refresh_token: expect.any(String),
      token_type: 'bearer',
      expires_in: 1800,
    })
  })

  test('POST /token takes what an OAuth2 form of FastAPI sends along', async () => {
    const reply = await logIn({ grant_type: 'password', scope: '', client_id: '', client_secret: '' })
    expect(reply.statusCode).toBe(200)
  })

  test('POST /token answers 401 to an incorrect username or password', async () => {
    for (const fields of [{ password: 'wrong password' }, { username: 'nobody' }]) {
      const reply = await logIn(fields)
      expect([reply.statusCode, reply.json<{ detail: string }>().detail]).toEqual([
        401,
        'Incorrect username or password.',
      ])
    }
  })

  test('POST /validate answers with the username of a token, and nothing else', async () => {
    const { access_token: token } = (await logIn()).json<TokenReply>()
    const reply = await post(app, '/validate', '', { authorization: `Bearer ${token}` })
    expect([reply.statusCode, reply.json()]).toEqual([200, { username: 'string', valid: true }])
  })

  test.each(['', 'x', 'eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.'])('POST /validate answers 401 to %j', async (token) => {
    const headers: Record<string, string> = token ? { authorization: `Bearer ${token}` } : {}
    const reply = await post(app, '/validate', '', headers)
    expect([reply.statusCode, reply.headers['www-authenticate']]).toEqual([401, expect.stringMatching(/^Bearer/)])
  })
})

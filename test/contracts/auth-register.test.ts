import { describe, expect, test } from 'vitest'
import { form, get, post, type TokenReply } from '#test/support/actors.ts'
import { eventually, linkIn, mailsTo } from '#test/support/mail.ts'
import { startService } from '#test/support/service.ts'

const { app } = await startService({
  CONTRACTS: 'auth-register',
  // The link of that service.
  PASSWORD_RESET_URL: 'http://localhost:8000/auth/reset-password/{token}',
})

/** As the README of that service prints it. */
const register = {
  username: 'johndoe',
  email: 'johndoe@example.com',
  password: 'securepassword',
}
const login = 'username=johndoe&password=securepassword'
const forgot = {
  email: 'johndoe@example.com',
}
const reset = {
  new_password: 'newSecurePassword',
}
const codeOf = (reply: { json: () => unknown }) => (reply.json() as { code: string }).code
/** The path of the link to set a new password, once its mail has come. */
const resetLink = () =>
  eventually(async () =>
    (await mailsTo(app, forgot.email))
      .map((mail) => new URL(linkIn(mail)).pathname)
      .find((path) => path.startsWith('/auth/reset-password/')),
  )

describe('auth-register', () => {
  test('POST /auth/register answers with a message and the username', async () => {
    const reply = await post(app, '/auth/register', register)
    expect([reply.statusCode, reply.json()]).toEqual([
      201,
      { message: 'User registered successfully', user: 'johndoe' },
    ])
  })

  test.each([
    ['username', 'username_taken', { email: 'another@example.com' }],
    ['email', 'email_taken', { username: 'another' }],
  ])('POST /auth/register answers 409 when the %s is taken', async (_, code, change) => {
    const reply = await post(app, '/auth/register', { ...register, ...change })
    expect([reply.statusCode, codeOf(reply)]).toEqual([409, code])
  })

  test('POST /auth/login answers a form with a token', async () => {
    const reply = await post(app, '/auth/login', login, form)
    expect(reply.statusCode).toBe(200)
    expect(reply.json()).toMatchObject({ access_token: expect.stringMatching(/^eyJ.*\..*\./), token_type: 'bearer' })
    expect(reply.json<TokenReply>().refresh_token).toBeDefined()
  })

  test('POST /auth/login answers 401 to a wrong password', async () => {
    expect((await post(app, '/auth/login', 'username=johndoe&password=wrong', form)).statusCode).toBe(401)
  })

  test('POST /auth/forgot-password answers alike to an address that is known and to one that is not', async () => {
    const known = await post(app, '/auth/forgot-password', forgot)
    const unknown = await post(app, '/auth/forgot-password', { email: 'nobody@example.com' })
    expect([known.statusCode, known.json()]).toEqual([200, { message: expect.any(String) }])
    expect([unknown.statusCode, unknown.body]).toEqual([known.statusCode, known.body])
  })

  test('GET /auth/reset-password/{token} leads to the page and uses nothing up', async () => {
    const link = await resetLink()
    for (const url of [link, link]) {
      const reply = await get(app, url)
      expect([reply.statusCode, reply.headers.location]).toEqual([
        303,
        `/account/reset-password#token=${link.split('/').at(-1)}`,
      ])
      expect(reply.headers['cache-control']).toBe('no-store')
    }
    expect((await get(app, '/account/reset-password')).statusCode).toBe(200)
  })

  test('GET /auth/reset-password/{token} stays on this site, whatever the token is', async () => {
    const { statusCode, headers } = await get(app, '/auth/reset-password/%2F%2Fevil.example%0D%0Ax:y')
    if (statusCode === 303) expect(headers.location).toBe('/account/reset-password#token=%2F%2Fevil.example%0D%0Ax%3Ay')
    else expect(statusCode).toBe(400)
  })

  test('POST /auth/reset-password/{token} refuses a weak password and leaves the link as it is', async () => {
    const reply = await post(app, await resetLink(), { new_password: 'password' })
    expect([reply.statusCode, codeOf(reply)]).toEqual([400, 'password_unsuitable'])
  })

  test('POST /auth/reset-password/{token} sets the password, once', async () => {
    const link = await resetLink()
    const reply = await post(app, link, reset)
    expect([reply.statusCode, reply.json()]).toEqual([200, { message: 'Password reset successfully' }])
    expect((await post(app, '/auth/login', login, form)).statusCode).toBe(401)
    const next = { username: 'johndoe', password: 'newSecurePassword' }
    expect((await post(app, '/auth/login', next)).statusCode).toBe(200)

    const again = await post(app, link, { new_password: 'another secure password' })
    expect([again.statusCode, codeOf(again)]).toEqual([400, 'one_time_token_invalid'])
  })

  test.each(['x', 'lko_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'])(
    'POST /auth/reset-password/%s answers 400',
    async (token) => {
      expect((await post(app, `/auth/reset-password/${token}`, reset)).statusCode).toBe(400)
    },
  )
})

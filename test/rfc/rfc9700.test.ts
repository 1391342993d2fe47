import { decodeJwt } from 'jose'
import { describe, expect, test } from 'vitest'
import { form, formOf, get, password, post, signedUp, type TokenReply } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const clientSecret = 'a-secret-of-the-gateway'
const { app, sql } = await startService({ OAUTH_CLIENTS: `gateway:${clientSecret}` })
const codeOf = (reply: { json: () => unknown }) => (reply.json() as { code: string }).code
const tokensOf = (reply: { json: () => unknown }) => reply.json() as TokenReply

describe('RFC 9700 §2.2.2 and §4.14.2, refresh tokens', () => {
  test('every refresh gives a new one, with 256 bits that cannot be guessed from the last', async () => {
    const { tokens, refresh } = await signedUp(app)
    const next = tokensOf(await refresh())
    const [last, successor] = [tokens, next].map(({ refresh_token: text }) => text.split('.')[2] ?? '')
    expect([last, successor].map((secret) => Buffer.from(secret ?? '', 'base64url').length)).toEqual([32, 32])
    expect(successor).not.toBe(last)
  })

  test('a spent one that comes back ends the session: its access token, its successor, and nothing else', async () => {
    const { refresh, me, logIn, userId } = await signedUp(app)
    const next = tokensOf(await refresh(tokensOf(await refresh()).refresh_token))
    await sql`
      update refresh_tokens t set issued_at = now() - interval '11 seconds'
      from sessions s where s.id = t.session_id and s.user_id = ${userId}`
    const elsewhere = tokensOf(await logIn())
    expect(codeOf(await refresh())).toBe('refresh_token_reused')
    expect(codeOf(await refresh(next.refresh_token))).toBe('refresh_token_revoked')
    expect((await me(next.access_token)).statusCode).toBe(401)
    expect((await me(elsewhere.access_token)).statusCode).toBe(200)
  })

  test('a spent one that a resource server asks about is not active, and asking ends nothing', async () => {
    const { refresh, me, tokens, userId } = await signedUp(app)
    const next = tokensOf(await refresh(tokensOf(await refresh()).refresh_token))
    await sql`
      update refresh_tokens t set issued_at = now() - interval '11 seconds'
      from sessions s where s.id = t.session_id and s.user_id = ${userId}`
    const body = { token: tokens.refresh_token, client_id: 'gateway', client_secret: clientSecret }
    expect((await post(app, '/oauth/introspect', formOf(body), form)).json()).toEqual({ active: false })
    expect([(await me()).statusCode, (await refresh(next.refresh_token)).statusCode]).toEqual([200, 200])
  })

  test('one that is not used expires, and so does a session that always is', async () => {
    const [idle, old] = [await signedUp(app), await signedUp(app)]
    const [row] = await sql`
      select t.expires_at - t.issued_at = interval '7 days' as idle, s.expires_at - s.created_at = interval '30 days' as old
      from refresh_tokens t join sessions s on s.id = t.session_id where s.user_id = ${idle.userId}`
    expect(row).toEqual({ idle: true, old: true })
    await sql`
      update refresh_tokens t set expires_at = now() from sessions s where s.id = t.session_id and s.user_id = ${idle.userId}`
    await sql`update sessions set expires_at = now() where user_id = ${old.userId}`
    for (const { refresh } of [idle, old]) expect(codeOf(await refresh())).toBe('refresh_token_expired')
    expect((await old.me()).statusCode).toBe(401)
  })

  test.each([
    ['a logout', 'POST', '/logout', {}],
    ['a change of the password', 'POST', '/me/password', { current_password: password, new_password: 'a new battery' }],
  ] as const)('those of other devices end with %s', async (_name, method, path, body) => {
    const { send, logIn, refresh } = await signedUp(app)
    const phone = tokensOf(await logIn())
    expect((await send(method, path, body)).statusCode).toBe(204)
    expect(codeOf(await refresh(phone.refresh_token))).toBe('refresh_token_revoked')
  })
})

describe('RFC 9700 §2.3, access tokens', () => {
  test('are for one audience, live 30 minutes and end with their session', async () => {
    const { tokens, me, logOut } = await signedUp(app)
    const { aud, exp = 0, iat = 0 } = decodeJwt(tokens.access_token)
    expect([aud, exp - iat]).toEqual(['latchkey', 1800])
    await logOut()
    expect((await me()).statusCode).toBe(401)
  })
})

describe('RFC 9700 §4.3.2, tokens in the address', () => {
  test('are not taken, and never sent', async () => {
    const { tokens } = await signedUp(app)
    for (const name of ['access_token', 'token', 'authorization'])
      expect((await get(app, `/api/v1/me?${name}=${tokens.access_token}`)).statusCode).toBe(401)
    const reply = await get(app, '/api/v1/me')
    expect(reply.headers['referrer-policy']).toBe('no-referrer')
    expect(reply.headers).not.toHaveProperty('location')
  })
})

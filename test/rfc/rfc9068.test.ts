import { randomUUID } from 'node:crypto'
import { decodeProtectedHeader, errors, jwtVerify } from 'jose'
import * as oauth from 'oauth4webapi'
import { describe, expect, test } from 'vitest'
import { get, signedUp, type TokenReply } from '#test/support/actors.ts'
import { secretKey, startService } from '#test/support/service.ts'

const issuer = 'https://auth.example.com'
const { app, sql, url } = await startService({ PUBLIC_URL: issuer, JWT_AUDIENCE: 'api' })
const resource = { issuer, audience: 'api', typ: 'at+jwt', algorithms: ['HS256'] }
const verified = async (token: string, key = secretKey) => (await jwtVerify(token, Buffer.from(key), resource)).payload

describe('RFC 9068 §2.1', () => {
  test('the header has the type at+jwt, a signature algorithm and the id of its key', async () => {
    const header = decodeProtectedHeader((await signedUp(app)).tokens.access_token)
    expect(header).toEqual({ typ: 'at+jwt', alg: 'HS256', kid: expect.stringMatching(/^[\w-]{16}$/) as string })
  })
})

describe('RFC 9068 §2.2', () => {
  test('the claims are iss, exp, aud, sub, client_id, iat, jti, the roles and the session', async () => {
    const { tokens, userId } = await signedUp(app)
    const [session] = await sql`select id from sessions where user_id = ${userId}`
    expect(await verified(tokens.access_token)).toEqual({
      iss: issuer,
      aud: 'api',
      sub: String(userId),
      client_id: 'latchkey',
      sid: session?.['id'] as string,
      jti: expect.stringMatching(/^[0-9a-f-]{36}$/) as string,
      roles: ['user'],
      iat: expect.any(Number) as number,
      exp: expect.any(Number) as number,
    })
  })

  test('jti is another one in every token, also of the same second', async () => {
    const { logIn, refresh } = await signedUp(app)
    // Those of one session, too.
    const replies = await Promise.all([logIn(), logIn(), refresh(), refresh(), refresh()])
    const payloads = await Promise.all(replies.map((reply) => verified(reply.json<TokenReply>().access_token)))
    expect(new Set(payloads.map(({ jti }) => jti)).size).toBe(5)
  })

  test('sub stays the same when the names of the user change', async () => {
    const { send, logIn, tokens } = await signedUp(app)
    await send('PATCH', '/me', { username: randomUUID(), full_name: 'Somebody Else' })
    const later = await verified((await logIn()).json<TokenReply>().access_token)
    expect(later.sub).toBe((await verified(tokens.access_token)).sub)
  })

  test('exp follows the setting, and never passes the end of the session', async () => {
    const short = await startService({ ACCESS_TOKEN_EXPIRE_MINUTES: '1', PUBLIC_URL: issuer, JWT_AUDIENCE: 'api' })
    const { tokens, refresh, userId } = await signedUp(short.app)
    const { exp = 0, iat = 0 } = await verified(tokens.access_token)
    expect([exp - iat, tokens.expires_in]).toEqual([60, 60])
    const [row] = await short.sql`
      update sessions set expires_at = now() + interval '30 seconds' where user_id = ${userId}
      returning floor(extract(epoch from expires_at))::integer as end`
    const last = await verified((await refresh()).json<TokenReply>().access_token)
    expect(last.exp).toBe(row?.['end'])
  })

  test('§2.2.3.1: the roles are those of the database at the time of issue', async () => {
    const { refresh, userId } = await signedUp(app)
    await sql`update users set roles = '{user,admin}' where id = ${userId}`
    const token = (await refresh()).json<TokenReply>().access_token
    expect((await verified(token))['roles']).toEqual(['user', 'admin'])
  })
})

describe('RFC 9068 §4', () => {
  test.each(['ES256', 'EdDSA', 'RS256'])('oauth4webapi takes a token of %s', async (algorithm) => {
    const service = await startService({ ALGORITHM: algorithm, PUBLIC_URL: issuer, JWT_AUDIENCE: 'api' })
    const base = await service.app.listen({ port: 0 })
    const { tokens, userId } = await signedUp(service.app)
    const request = new Request('https://api.example.com/', {
      headers: { authorization: `Bearer ${tokens.access_token}` },
    })
    const server = { issuer, jwks_uri: `${base}/.well-known/jwks.json` }
    const options = { [oauth.allowInsecureRequests]: true, signingAlgorithms: [algorithm] }
    const claims = await oauth.validateJwtAccessToken(server, request, 'api', options)
    expect([claims.sub, claims.client_id]).toEqual([String(userId), 'latchkey'])
  })

  test('a resource server that expects another issuer, audience or type refuses the token', async () => {
    const { tokens } = await signedUp(app)
    for (const expectation of [{ issuer: 'https://other.example' }, { audience: 'other' }, { typ: 'JWT' }])
      await expect(
        jwtVerify(tokens.access_token, Buffer.from(secretKey), { ...resource, ...expectation }),
      ).rejects.toBeInstanceOf(errors.JWTClaimValidationFailed)
  })

  test('a token of another issuer or audience is refused though it has the same key', async () => {
    const { tokens } = await signedUp(app)
    const authorization = `Bearer ${tokens.access_token}`
    for (const environment of [{ PUBLIC_URL: 'https://other.example' }, { JWT_AUDIENCE: 'other' }]) {
      const other = await startService({ PUBLIC_URL: issuer, JWT_AUDIENCE: 'api', ...environment }, { url, sql })
      expect((await get(other.app, '/api/v1/me', { authorization })).statusCode).toBe(401)
    }
  })

  test('keys are told apart by kid: the new one signs, the previous one still verifies, any other does not', async () => {
    const newKey = 'another-key-for-tests-0123456789-zyxwvuts'
    const settings = { PUBLIC_URL: issuer, JWT_AUDIENCE: 'api', SECRET_KEY: newKey }
    const { tokens, logIn, email } = await signedUp(app)
    const rotated = await startService({ ...settings, SECRET_KEY_PREVIOUS: secretKey }, { url, sql })
    const alone = await startService(settings, { url, sql })
    const authorization = `Bearer ${tokens.access_token}`
    expect((await get(rotated.app, '/api/v1/me', { authorization })).json()).toMatchObject({ email })
    expect((await get(alone.app, '/api/v1/me', { authorization })).statusCode).toBe(401)

    const { tokens: newer } = await signedUp(rotated.app)
    expect((await verified(newer.access_token, newKey)).iss).toBe(issuer)
    const kids = [tokens, newer].map(({ access_token: token }) => decodeProtectedHeader(token).kid)
    expect(new Set(kids).size).toBe(2)
    expect((await logIn()).statusCode).toBe(200)
  })
})

describe('RFC 9068 §6', () => {
  test('the token holds no address and no name of the user', async () => {
    const { tokens, email } = await signedUp(app, { username: 'private.name', full_name: 'Private Person' })
    const payload = JSON.stringify(await verified(tokens.access_token))
    for (const text of [email, 'private.name', 'Private Person']) expect(payload).not.toContain(text)
  })
})

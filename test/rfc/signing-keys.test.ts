import { createRemoteJWKSet, decodeProtectedHeader, jwtVerify } from 'jose'
import { describe, expect, test } from 'vitest'
import { get, signedUp, type TokenReply } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const publicUrl = 'https://auth.example.com'

describe.each(['ES256', 'EdDSA', 'RS256'])('access tokens signed with %s', (algorithm) => {
  test('verify with the published keys across a rotation, without one failure', async () => {
    const service = await startService({ ALGORITHM: algorithm, PUBLIC_URL: publicUrl })
    const { app, sql } = service
    const second = await startService({ ALGORITHM: algorithm, PUBLIC_URL: publicUrl }, service)
    const base = await app.listen({ port: 0 })
    const keySet = createRemoteJWKSet(new URL(`${base}/.well-known/jwks.json`), { cooldownDuration: 0 })
    const check = (token: string) =>
      jwtVerify(token, keySet, { issuer: publicUrl, audience: 'latchkey', typ: 'at+jwt' })
    const kidOf = (token: string) => decodeProtectedHeader(token).kid
    const person = await signedUp(app)
    const fresh = async (on = app) => {
      const reply = await on.inject({
        method: 'POST',
        url: '/oauth/token',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        payload: new URLSearchParams({
          grant_type: 'password',
          username: person.email,
          password: 'correct horse battery staple',
        }).toString(),
      })
      return reply.json<TokenReply>().access_token
    }

    const before = await fresh()
    expect((await check(before)).payload.sub).toBe(String(person.userId))

    // Published, and not signing yet: on both instances the old key signs.
    await app.keyRing.rotate()
    await second.app.keyRing.load()
    expect(app.keyRing.publicKeys().length).toBe(2)
    const meanwhile = [await fresh(), await fresh(second.app)]
    expect(new Set([before, ...meanwhile].map(kidOf)).size).toBe(1)

    // Ten minutes later the new key signs everywhere, and the tokens of the old one still verify.
    await sql`update signing_keys set signs_from = signs_from - interval '10 minutes'`
    await app.keyRing.load()
    await second.app.keyRing.load()
    const after = [await fresh(), await fresh(second.app)]
    expect(new Set(after.map(kidOf)).size).toBe(1)
    expect(kidOf(after[0] ?? '')).not.toBe(kidOf(before))
    for (const token of [before, ...meanwhile, ...after]) {
      expect((await check(token)).protectedHeader.alg).toBe(algorithm)
      expect((await get(second.app, '/api/v1/me', { authorization: `Bearer ${token}` })).statusCode).toBe(200)
    }

    // Once the last token of the old key has expired, the key is gone.
    await sql`update signing_keys set verifies_until = now() where verifies_until is not null`
    await app.keyRing.load()
    expect(app.keyRing.publicKeys().map(({ kid }) => kid)).toEqual([kidOf(after[0] ?? '')])
    expect((await get(app, '/api/v1/me', { authorization: `Bearer ${before}` })).statusCode).toBe(401)
  })
})

describe('signing keys', () => {
  test('are made once, however many instances start together', async () => {
    const service = await startService({ ALGORITHM: 'ES256' })
    await service.sql`truncate signing_keys`
    const others = await Promise.all([1, 2, 3].map(() => startService({ ALGORITHM: 'ES256' }, service)))
    const kids = others.map(({ app }) => app.keyRing.current()?.kid)
    expect(new Set(kids).size).toBe(1)
  })

  test('hold no private part that the database alone gives away', async () => {
    const { sql } = await startService({ ALGORITHM: 'RS256' })
    const [row] = await sql<{ text: string }[]>`select encode(private_key, 'escape') as text from signing_keys`
    expect(row?.text).not.toContain('PRIVATE KEY')
  })

  test('that SECRET_KEY no longer opens are replaced at once; their tokens still verify', async () => {
    const service = await startService({ ALGORITHM: 'EdDSA', PUBLIC_URL: publicUrl })
    const { tokens } = await signedUp(service.app)
    const renewed = await startService(
      { ALGORITHM: 'EdDSA', PUBLIC_URL: publicUrl, SECRET_KEY: 'another-key-for-tests-0123456789-zyxwvuts' },
      service,
    )
    expect(renewed.app.keyRing.current()?.kid).not.toBe(service.app.keyRing.current()?.kid)
    expect((await get(renewed.app, '/api/v1/me', { authorization: `Bearer ${tokens.access_token}` })).statusCode).toBe(
      200,
    )
  })

  test('are replaced by age when that is wanted, and not before', async () => {
    const { app, sql } = await startService({ ALGORITHM: 'ES256' })
    expect(await app.keyRing.rotate({ minAgeSeconds: 86_400 })).toBe(false)
    await sql`update signing_keys set created_at = now() - interval '2 days'`
    await app.keyRing.load()
    expect(await app.keyRing.rotate({ minAgeSeconds: 86_400 })).toBe(true)
    expect(await app.keyRing.rotate({ minAgeSeconds: 86_400 })).toBe(false)
  })

  test('of HS256 are published nowhere', async () => {
    const { app } = await startService()
    expect((await get(app, '/.well-known/jwks.json')).json()).toEqual({ keys: [] })
  })
})

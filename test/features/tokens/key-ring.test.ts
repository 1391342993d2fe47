import { createHmac } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import { describe, expect, test } from 'vitest'
import { get, metric, refreshWith, signedUp, type TokenReply } from '#test/support/actors.ts'
import { cloneDatabase, secretKey, startService, type TestDatabase } from '#test/support/service.ts'

const otherSecret = 'another-key-for-tests-0123456789-zyxwvuts'
const me = async (app: FastifyInstance, token: string) =>
  (await get(app, '/api/v1/me', { authorization: `Bearer ${token}` })).statusCode
const algorithmOf = (token: string) => decodeProtectedHeader(token).alg

/** A token of the service, and one of a new login for it at any instance. */
async function client(app: FastifyInstance) {
  const { tokens } = await signedUp(app)
  let refreshToken = tokens.refresh_token
  const fresh = async (at: FastifyInstance) => {
    const reply = (await refreshWith(at, refreshToken)).json<TokenReply>()
    refreshToken = reply.refresh_token
    return reply.access_token
  }
  return { token: tokens.access_token, fresh }
}

/** What somebody makes who knows `SECRET_KEY`, from a token that they have seen. */
function forged(token: string): string {
  const claims = { ...decodeJwt(token), jti: 'forged', exp: Math.floor(Date.now() / 1000) + 86_400 }
  const input = `${token.split('.')[0]}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}`
  return `${input}.${createHmac('sha256', secretKey).update(input).digest('base64url')}`
}

/** A well-formed token of a key that nobody has. */
const stranger = (n: number) => {
  const header = { alg: 'HS256', typ: 'at+jwt', kid: `stranger${String(n).padStart(8, '0')}` }
  return `${Buffer.from(JSON.stringify(header)).toString('base64url')}.e30.AAAA`
}

/** Runs `use` while another connection holds the keys; `use` is given what counts the statements that wait for them. */
async function whileLocked<T>({ sql }: TestDatabase, use: (waiting: () => Promise<number>) => Promise<T>): Promise<T> {
  return sql.begin(async (transaction) => {
    await transaction`lock table signing_keys in access exclusive mode`
    return use(async () => {
      const [row] = await transaction<{ count: number }[]>`
        select count(*)::integer as count from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query like '%signing_keys%'`
      return row?.count ?? 0
    })
  }) as Promise<T>
}

/** What ten minutes do to a key that is published and does not sign yet. */
const passLead = ({ sql }: TestDatabase) => sql`update signing_keys set signs_from = now() where signs_from > now()`

const shared = await startService({ DATABASE_POOL_SIZE: '20' })

describe('a token whose key an instance has not read', () => {
  test.each(['HS256', 'ES256'])('is taken by an instance of %s, which looks for the key', async (algorithm) => {
    const database = await cloneDatabase()
    const old = await startService({ ALGORITHM: algorithm }, database)
    const { fresh } = await client(old.app)
    const { app } = await startService({ ALGORITHM: 'EdDSA' }, database)
    await passLead(database)
    await app.keyRing.load()
    const token = await fresh(app)
    expect([algorithmOf(token), await me(old.app, token)]).toEqual(['EdDSA', 200])
  })

  test('is taken after a rotation at once', async () => {
    const first = await startService({ ALGORITHM: 'ES256' })
    const second = await startService({ ALGORITHM: 'ES256' }, first)
    const { fresh, token: before } = await client(first.app)
    await first.app.keyRing.rotate({ leadSeconds: 0 })
    const after = await fresh(first.app)
    expect(decodeProtectedHeader(after).kid).not.toBe(decodeProtectedHeader(before).kid)
    expect([await me(second.app, after), await me(first.app, before)]).toEqual([200, 200])
  })

  test('is taken after SECRET_KEY no longer opens the keys, which nobody could announce', async () => {
    const first = await startService({ ALGORITHM: 'ES256' })
    const { fresh } = await client(first.app)
    const second = await startService({ ALGORITHM: 'ES256', SECRET_KEY: otherSecret }, first)
    const { token } = await client(second.app)
    expect([await me(first.app, token), await me(second.app, await fresh(first.app))]).toEqual([200, 200])
  })
})

describe('a token whose key nobody has', () => {
  test('shares one look at the database with others, and is refused', async () => {
    const tokens = Array.from({ length: 20 }, (_, n) => stranger(n))
    const replies = await whileLocked(shared, async (waiting) => {
      const asked = tokens.map((token) => me(shared.app, token))
      const counts: number[] = []
      for (let n = 0; n < 2000 && !counts.some(Boolean); n++) counts.push(await waiting())
      for (let n = 0; n < 50; n++) counts.push(await waiting())
      return { asked, counts }
    })
    // Every ten seconds there is the look of the clock besides.
    expect(Math.max(...replies.counts)).toBeLessThanOrEqual(2)
    expect(new Set(await Promise.all(replies.asked))).toEqual(new Set([401]))
  })

  test('is a 503 while the database does not answer, for its key may be there', async () => {
    expect(await whileLocked(shared, () => me(shared.app, stranger(1)))).toBe(503)
    expect(await me(shared.app, stranger(1))).toBe(401)
  })

  test('makes a logout a 503 then, too, whatever other token comes along', async () => {
    const { tokens } = await signedUp(shared.app)
    const payload = { refresh_token: tokens.refresh_token }
    const headers = { authorization: `Bearer ${stranger(1)}` }
    const logOut = () => shared.app.inject({ method: 'POST', url: '/api/v1/logout', payload, headers })
    expect((await whileLocked(shared, logOut)).statusCode).toBe(503)
    expect((await logOut()).statusCode).toBe(204)
  })

  test('leads to no look when its header is none of ours', async () => {
    const header = Buffer.from('{"typ":"at+jwt","alg":"HS256","kid":"x"}').toString('base64url')
    expect(await whileLocked(shared, () => me(shared.app, `${header}.e30.AAAA`))).toBe(401)
  })
})

describe('the first key of a new algorithm', () => {
  test('signs at once in a new database', async () => {
    const { app } = await startService({ ALGORITHM: 'ES256' })
    expect(algorithmOf((await client(app)).token)).toBe('ES256')
  })

  test.each(['HS256', 'ES256'])('is published before it signs, and until then the key of %s does', async (former) => {
    const old = await startService({ ALGORITHM: former })
    const { fresh } = await client(old.app)
    const { app } = await startService({ ALGORITHM: 'EdDSA' }, old)
    expect(app.keyRing.publicKeys().map(({ alg }) => alg)).toContain('EdDSA')
    const meanwhile = await fresh(app)
    await passLead(old)
    await app.keyRing.load()
    const after = await fresh(app)
    expect([meanwhile, after].map(algorithmOf)).toEqual([former, 'EdDSA'])
    for (const token of [meanwhile, after]) expect([await me(old.app, token), await me(app, token)]).toEqual([200, 200])
  })
})

describe('a former algorithm', () => {
  test.each(['HS256', 'ES256'])('(%s) is accepted until its last token has expired, and no longer', async (former) => {
    const old = await startService({ ALGORITHM: former, ACCESS_TOKEN_EXPIRE_MINUTES: '5' })
    const { token } = await client(old.app)
    await old.app.close()
    const { app, sql } = await startService({ ALGORITHM: 'EdDSA', ACCESS_TOKEN_EXPIRE_MINUTES: '5' }, old)
    expect(await me(app, token)).toBe(200)
    // Ten minutes until the new key signs, five that a token lives, one for the clocks.
    const [row] = await sql`
      select verifies_until - now() between '15 minutes' and '16 minutes' as bounded
      from signing_keys where algorithm = ${former}`
    expect(row?.['bounded']).toBe(true)

    await sql`update signing_keys set verifies_until = now() where algorithm = ${former}`
    await app.keyRing.load()
    expect(await me(app, token)).toBe(401)
    if (former === 'HS256') expect(await me(app, forged(token))).toBe(401)
  })

  test.each(['HS256', 'ES256'])('(%s) is accepted as long as an instance signs with it', async (former) => {
    const old = await startService({ ALGORITHM: former })
    const { fresh } = await client(old.app)
    const { app, sql } = await startService({ ALGORITHM: 'EdDSA' }, old)
    // What half an hour does to it.
    await sql`update signing_keys set verifies_until = now() + interval '20 minutes' where algorithm = ${former}`
    await old.app.keyRing.load()
    await app.keyRing.load()
    const [row] = await sql`
      select verifies_until > now() + interval '31 minutes' as outlives from signing_keys where algorithm = ${former}`
    expect(row?.['outlives']).toBe(true)
    const token = await fresh(old.app)
    expect([algorithmOf(token), await me(app, token)]).toEqual([former, 200])
  })

  test('outlives an instance that could not reach the database for long', async () => {
    const { app, sql } = await startService()
    const { token } = await client(app)
    await sql`update signing_keys set verifies_until = now() - interval '1 hour'`
    await app.keyRing.read()
    expect(await me(app, token)).toBe(200)
    await app.keyRing.load()
    const [row] = await sql`select verifies_until > now() + interval '31 minutes' as live from signing_keys`
    expect(row?.['live']).toBe(true)
  })

  test('can be gone back to, a year later', async () => {
    const first = await startService()
    const { fresh, token: old } = await client(first.app)
    await first.app.close()
    await first.sql`update signing_keys set verifies_until = now() - interval '1 year'`
    const second = await startService({ ALGORITHM: 'ES256' }, first)
    const middle = await fresh(second.app)
    expect([algorithmOf(middle), await me(second.app, old)]).toEqual(['ES256', 401])

    const third = await startService({}, first)
    const token = await fresh(third.app)
    expect(algorithmOf(token)).toBe('HS256')
    expect([await me(second.app, token), await me(third.app, middle)]).toEqual([200, 200])
  })

  test('never comes back with a key of SECRET_KEY that was retired', async () => {
    const first = await startService()
    const { token } = await client(first.app)
    const second = await startService({ ALGORITHM: 'ES256' }, first)
    await passLead(first)
    await second.app.keyRing.load()
    expect(await second.app.keyRing.retire(String(decodeProtectedHeader(token).kid))).toBe(true)
    // It ends at the next look, and an instance that is still told to use it signs with the key that there is.
    await first.app.keyRing.load()
    expect([await me(first.app, token), await me(second.app, token)]).toEqual([401, 401])
    const again = await startService({}, first)
    expect([await me(again.app, token), algorithmOf((await client(again.app)).token)]).toEqual([401, 'ES256'])
    await first.sql`delete from signing_keys where algorithm <> 'HS256'`
    await expect(startService({}, first)).rejects.toThrow('its HS256 key was retired')
  })
})

describe('the row of HS256', () => {
  test('does not have the kid of tokens, under which version 0.1 would take it for a key pair', async () => {
    const { app, sql } = await startService()
    const { kid = '' } = decodeProtectedHeader((await client(app)).token)
    const rows = await sql<{ kid: string }[]>`select kid, public_key, private_key from signing_keys`
    expect(rows).toEqual([{ kid: `HS256:${kid}`, public_key: '', private_key: Buffer.alloc(0) }])
  })
})

describe('a rotation by age', () => {
  test('asks nothing and makes no key while the newest is young enough, whatever algorithm came in between', async () => {
    const service = await startService({ ALGORITHM: 'ES256' })
    const { app, sql } = service
    expect(await whileLocked(service, () => app.keyRing.rotate({ minAgeSeconds: 86_400 }))).toBe(false)
    await sql`
      update signing_keys set verifies_until = now() + interval '1 hour', created_at = now() - interval '2 days'`
    await app.keyRing.load()
    expect(await app.keyRing.rotate({ minAgeSeconds: 86_400 })).toBe(true)
    expect(await app.keyRing.rotate({ minAgeSeconds: 86_400 })).toBe(false)
  })
})

describe('auth_signing_key_age_seconds', () => {
  test('is the age of the key that signs', async () => {
    const { app, sql } = await startService({ ALGORITHM: 'ES256' })
    await sql`update signing_keys set created_at = now() - interval '90 days'`
    await app.keyRing.load()
    expect(Math.floor((await metric(app, 'auth_signing_key_age_seconds{algorithm="ES256"}')) / 86_400)).toBe(90)
  })

  test('has no series while SECRET_KEY signs', async () => {
    expect((await get(shared.app, '/metrics')).body).not.toContain('auth_signing_key_age_seconds{')
  })
})

describe('@fastify/jwt', () => {
  test('gives routes nothing that passes by the keys, the claims and the session', async () => {
    const { app } = shared
    expect([app.hasDecorator('jwt'), app.hasReplyDecorator('jwtSign')]).toEqual([false, false])
    for (const name of ['jwtVerify', 'jwtDecode', 'user'])
      expect([name, app.hasRequestDecorator(name)]).toEqual([name, false])
  })
})

import { describe, expect, test } from 'vitest'
import { extendSigningKey, retireSigningKey } from '#src/features/tokens/signing-keys.sql.ts'
import { get, signedUp } from '#test/support/actors.ts'
import { secretKey, startService, type TestDatabase } from '#test/support/service.ts'

const otherSecret = 'another-key-for-tests-0123456789-zyxwvuts'
const settings = { ALGORITHM: 'ES256' }
const keyCount = async ({ sql }: Pick<TestDatabase, 'sql'>) => (await sql`select from signing_keys`).length

describe('the key that signs', () => {
  test('is one that does not sign yet when there is no other, and of those the first to sign', async () => {
    const { app, sql } = await startService(settings)
    const first = app.keyRing.current()?.kid
    await app.keyRing.rotate()
    await sql`update signing_keys set signs_from = signs_from + interval '1 hour'`
    await app.keyRing.load()
    expect(app.keyRing.keys.length).toBe(2)
    expect(app.keyRing.current()?.kid).toBe(first)
  })

  test('stays the same under another SECRET_KEY while SECRET_KEY_PREVIOUS opens it', async () => {
    const former = await startService(settings)
    const environment = { ...settings, SECRET_KEY: otherSecret, SECRET_KEY_PREVIOUS: secretKey }
    const { app } = await startService(environment, former)
    expect(app.keyRing.current()?.kid).toBe(former.app.keyRing.current()?.kid)
    expect(await keyCount(former)).toBe(1)
    const { me } = await signedUp(app)
    expect((await me()).statusCode).toBe(200)
  })
})

describe('a rotation by age', () => {
  test('happens once when two instances find the key too old', async () => {
    const first = await startService(settings)
    await first.sql`update signing_keys set created_at = now() - interval '2 days'`
    const second = await startService(settings, first)
    await first.app.keyRing.load()
    const instances = [first, second]
    const rotated: boolean[] = []
    // The second has not heard of the key that the first makes.
    for (const { app } of instances) rotated.push(await app.keyRing.rotate({ minAgeSeconds: 86_400 }))
    expect([rotated, await keyCount(first)]).toEqual([[true, false], 2])
  })

  test('makes no key of HS256, which is SECRET_KEY', async () => {
    const service = await startService()
    await service.sql`update signing_keys set created_at = now() - interval '2 days'`
    await service.app.keyRing.load()
    expect(await service.app.keyRing.rotate({ minAgeSeconds: 86_400 })).toBe(false)
    expect(await keyCount(service)).toBe(1)
  })
})

describe('the time that a key verifies', () => {
  test('is not cut short by an instance whose tokens live shorter', async () => {
    const long = await startService({ ACCESS_TOKEN_EXPIRE_MINUTES: '60' })
    const short = { ACCESS_TOKEN_EXPIRE_MINUTES: '5', SECRET_KEY: otherSecret, SECRET_KEY_PREVIOUS: secretKey }
    await startService(short, long)
    const rows = await long.sql<{ minutes: number }[]>`
      select round(extract(epoch from verifies_until - now()) / 60)::integer as minutes from signing_keys order by 1`
    expect(rows.map(({ minutes }) => minutes)).toEqual([16, 71])
  })

  test('is extended, never cut short, and not given back to a key that was retired', async () => {
    const { app, sql } = await startService()
    const [{ kid } = { kid: '' }] = await sql<{ kid: string }[]>`select kid from signing_keys`
    const until = async () => (await sql`select verifies_until::text as until from signing_keys`)[0]?.['until']
    const before = await until()
    await app.db.rows(extendSigningKey, { kid, seconds: 60 })
    expect(await until()).toBe(before)
    await app.db.rows(retireSigningKey, { kid })
    await app.db.rows(extendSigningKey, { kid, seconds: 60 })
    expect(await until()).toBe('-infinity')
  })
})

describe('tokens of keys that nobody has', () => {
  test('lead to one look a second, however many come one after the other', async () => {
    const { app } = await startService()
    const started = performance.now()
    for (let n = 0; n < 3; n++) {
      const header = { alg: 'HS256', typ: 'at+jwt', kid: `stranger${String(n).padStart(8, '0')}` }
      const token = `${Buffer.from(JSON.stringify(header)).toString('base64url')}.e30.AAAA`
      expect((await get(app, '/api/v1/me', { authorization: `Bearer ${token}` })).statusCode).toBe(401)
    }
    expect(performance.now() - started).toBeGreaterThan(1900)
  })
})

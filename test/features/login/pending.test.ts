import { describe, expect, test } from 'vitest'
import { makePending } from '#src/features/login/pending.ts'
import { sweep } from '#src/features/sessions/sweep.ts'
import { signedUp } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const { app, sql } = await startService()
const { userId } = await signedUp(app)
const options = { kind: 'trial', tries: 3, seconds: 300 }
const pending = makePending<{ step: string }>(app.core.db, ['the secret'], options)
const begun = { userId, data: { step: 'second factor' } }

describe('what is pending', () => {
  test('is taken once, also by many at once', async () => {
    const secret = await pending.begin(begun)
    const taken = await Promise.all(Array.from({ length: 10 }, () => pending.take(secret)))
    expect(taken.filter(Boolean)).toEqual([begun])
  })

  test('has as many tries as its kind', async () => {
    const secret = await pending.begin({ ...begun, userId: null })
    const tried = await Promise.all(Array.from({ length: 10 }, () => pending.attempt(secret)))
    expect(tried.filter(Boolean)).toEqual([1, 2, 3].map(() => ({ ...begun, userId: null })))
    expect(await pending.take(secret)).toEqual({ ...begun, userId: null })
  })

  test('is nothing under another secret, of another kind, or past its end', async () => {
    const secret = await pending.begin(begun)
    const other = makePending(app.core.db, ['the secret'], { ...options, kind: 'other' })
    expect([await pending.take(`${secret}A`), await other.take(secret), await other.attempt(secret)]).toEqual([
      undefined,
      undefined,
      undefined,
    ])
    for (let n = 0; n < options.tries; n++) await other.attempt(secret)
    expect(await pending.attempt(secret), 'another kind spends no try').toEqual(begun)
    await sql`update auth_sessions set expires_at = now() - interval '1 second'`
    expect([await pending.attempt(secret), await pending.take(secret)]).toEqual([undefined, undefined])
  })

  test('is sealed, and opens with the former key of the service, too', async () => {
    const secret = await pending.begin(begun)
    const [row] = await sql`select data from auth_sessions where expires_at > now()`
    expect(String(row?.['data'])).not.toContain('factor')
    const renewed = makePending(app.core.db, ['a new secret', 'the secret'], options)
    expect(await renewed.attempt(secret)).toEqual(begun)
    expect(await makePending(app.core.db, ['a new secret'], options).take(secret)).toBeUndefined()
  })

  test('ends with the sessions of its user', async () => {
    const { userId, logOut } = await signedUp(app)
    const secret = await pending.begin({ ...begun, userId })
    await logOut()
    expect([await pending.attempt(secret), await pending.take(secret)]).toEqual([undefined, undefined])
  })

  test('is at most five of a kind for one user, and goes with the sweep', async () => {
    const secrets = []
    for (let i = 0; i < 8; i++) secrets.push(await pending.begin(begun))
    const count = async () =>
      (await sql`select count(*)::integer as n from auth_sessions where user_id = ${userId}`)[0]?.['n'] as number
    expect(await count()).toBe(5)
    expect(await pending.attempt(secrets.at(-1) ?? '')).toEqual(begun)
    await sql`update auth_sessions set expires_at = now() - interval '1 second'`
    await sweep(app.core, { days: 7, auditDays: 365 })
    expect(await count()).toBe(0)
  })
})

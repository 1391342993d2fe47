import { createHash, randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { sweepMailQuotas } from '#src/features/mail/outbox.sql.ts'
import { password, post, signedUp } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

// Nothing is sent: what would be is in the outbox.
const { app, sql } = await startService({ MAIL_WORKER: 'off' })

const newAddress = () => `${randomUUID()}@example.com`
const forgot = (email: string) => post(app, '/api/v1/forgot-password', { email })
const register = (email: string) => post(app, '/api/v1/users/', { email, password })
const times = <T>(count: number, act: (i: number) => Promise<T>) =>
  Array.from({ length: count }).reduce<Promise<T[]>>(
    async (done, _, i) => [...(await done), await act(i)],
    Promise.resolve([]),
  )
const mailsTo = async (address: string) =>
  (await sql`select template from outbox where lower(recipient) = lower(${address}) order by id`).map(
    ({ template }) => template as string,
  )
const digestOf = (address: string) => createHash('sha256').update(address.toLowerCase()).digest()

describe('an address', () => {
  test('gets at most five links an hour, whatever asks for them', async () => {
    const victim = newAddress()
    const actors = [await signedUp(app), await signedUp(app)]
    const asked = await Promise.all(
      actors.map(({ send }) => times(5, () => send('POST', '/me/email', { email: victim, password }))),
    )
    expect(new Set(asked.flat().map(({ statusCode, body }) => `${statusCode} ${body}`)).size).toBe(1)
    expect(asked[0]?.[0]?.statusCode).toBe(202)
    expect(await mailsTo(victim)).toEqual(Array(5).fill('email-change'))

    expect((await register(victim.toUpperCase())).statusCode).toBe(201)
    await forgot(victim)
    expect(await mailsTo(victim)).toHaveLength(5)
  })

  test('gets five of 50 that are asked for at once', async () => {
    const { email } = await signedUp(app)
    await Promise.all(Array.from({ length: 50 }, () => forgot(email)))
    expect((await mailsTo(email)).toSorted()).toEqual(['email-verify', ...Array<string>(4).fill('password-reset')])
  })

  test('keeps the last link that it got, and nobody is told that there was no other', async () => {
    const { email, userId } = await signedUp(app)
    const digest = async () =>
      (await sql`select digest from one_time_tokens where user_id = ${userId} and purpose = 'password_reset'`)[0]
    const replies = await times(4, () => forgot(email))
    const last = await digest()
    replies.push(...(await times(3, () => forgot(email))))
    expect(await digest()).toEqual(last)
    expect(new Set(replies.map(({ statusCode, body }) => `${statusCode} ${body}`)).size).toBe(1)
    const events = await sql`select from audit_events where user_id = ${userId} and type = 'password.reset_requested'`
    expect(events).toHaveLength(7)
  })

  test('is told of changes whatever was asked for, and five times an hour at most', async () => {
    const { email, send } = await signedUp(app)
    await times(5, () => forgot(email))
    for (let i = 0; i < 6; i++) {
      const [current_password, new_password] = [i === 0 ? password : `${password} ${i - 1}`, `${password} ${i}`]
      expect((await send('POST', '/me/password', { current_password, new_password })).statusCode).toBe(204)
    }
    const mails = await mailsTo(email)
    expect(mails.filter((template) => template === 'password-changed')).toHaveLength(5)
    expect(mails).toHaveLength(10)
  })

  test('gets links again once the hour is over', async () => {
    const { email } = await signedUp(app)
    await times(6, () => forgot(email))
    await sql`update mail_quotas set begun_at = now() - interval '59 minutes' where recipient = ${digestOf(email)}`
    await forgot(email)
    expect(await mailsTo(email)).toHaveLength(5)
    await sql`update mail_quotas set begun_at = now() - interval '60 minutes' where recipient = ${digestOf(email)}`
    await times(6, () => forgot(email))
    expect(await mailsTo(email)).toHaveLength(10)
  })

  test('is counted by its digest, beyond the end of its account', async () => {
    const email = newAddress()
    for (let i = 0; i < 6; i++) {
      expect((await register(email)).statusCode).toBe(201)
      await sql`delete from users where email = ${email}`
    }
    expect(
      await sql`select kind, count from mail_quotas where recipient = sha256(convert_to(${email}, 'UTF8'))`,
    ).toEqual([{ kind: 'link', count: 5 }])
  })
})

describe('the sweep of the quotas', () => {
  test('takes those whose hour is over, 1,000 at a time', async () => {
    await sql`truncate mail_quotas`
    await sql`
      insert into mail_quotas (recipient, kind, begun_at)
      select sha256(n::text::bytea), 'link', now() - interval '61 minutes' from generate_series(1, 1001) n`
    const email = newAddress()
    await register(email)
    const sweep = async () => (await app.db.row(sweepMailQuotas, {}))?.deleted
    expect([await sweep(), await sweep(), await sweep()]).toEqual([1000, 1, 0])
    expect(await sql`select recipient from mail_quotas`).toEqual([{ recipient: digestOf(email) }])
  })
})

import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { oneTimeDigestOf } from '#src/features/recovery/one-time-tokens.ts'
import { digestOf } from '#src/features/tokens/tokens.ts'
import {
  requestEmailChange,
  requestVerification,
  resetPasswordByLink,
} from '#src/features/recovery/one-time-tokens.sql.ts'
import { type Actor, password, post, type Reply, signedUp } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

// Nothing is sent: what would be is in the outbox.
const { app, sql } = await startService({ MAIL_WORKER: 'off' })
const nobody = { ip: null, userAgent: null, requestId: null }
const codeOf = (reply: Reply) => reply.json<{ code: string }>().code

const reset = (token: string, password: string) =>
  post(app, '/api/v1/reset-password', { token, new_password: password })
const verify = (token: string) => post(app, '/api/v1/verify-email', { token })

/** A link that works, as its mail would have it. */
async function linkOf({ userId, email }: Actor, purpose = 'password_reset'): Promise<string> {
  const secret = randomBytes(32)
  await sql`
    insert into one_time_tokens (user_id, purpose, digest, email, expires_at)
    values (${userId}, ${purpose}, ${digestOf(secret)}, ${email}, now() + interval '1 hour')
    on conflict (user_id, purpose) do update set digest = excluded.digest`
  return `lko_${secret.toString('base64url')}`
}

/** What may become of a link, or of its user. */
const ends: Record<string, (actor: Actor) => PromiseLike<unknown>> = {
  'has expired': ({ userId }) => sql`update one_time_tokens set expires_at = now() where user_id = ${userId}`,
  'is of a disabled user': ({ userId }) => sql`update users set is_active = false where id = ${userId}`,
  'went to a former address': ({ userId, email }) =>
    sql`update users set email = ${`new-${email}`} where id = ${userId}`,
  'is for another purpose': async ({ userId }) => {
    await sql`delete from one_time_tokens where user_id = ${userId} and purpose = 'email_verify'`
    await sql`update one_time_tokens set purpose = 'email_verify' where user_id = ${userId}`
  },
}

describe('a reset link', () => {
  test.for(Object.entries(ends))('that %s is refused whatever the password', async ([, end]) => {
    const actor = await signedUp(app)
    const token = await linkOf(actor)
    expect(codeOf(await reset(token, 'short'))).toBe('password_unsuitable')
    await end(actor)
    expect(codeOf(await reset(token, 'short'))).toBe('one_time_token_invalid')
  })

  test.for(Object.entries(ends))('that %s by the time the password is hashed sets none', async ([, end]) => {
    const actor = await signedUp(app)
    const digest = oneTimeDigestOf(await linkOf(actor)) ?? Buffer.alloc(0)
    const hash = async () => (await sql`select password_hash from users where id = ${actor.userId}`)[0]
    const before = await hash()
    const spending = { ...nobody, digest, newHash: 'new', keepSessionId: null, reason: 'password_reset' } as const
    await end(actor)
    expect(await app.db.row(resetPasswordByLink, spending)).toBeUndefined()
    expect(await hash()).toEqual(before)
  })
})

describe('a link that confirms an address', () => {
  test('does not give back a former address', async () => {
    const actor = await signedUp(app)
    const token = await linkOf(actor, 'email_verify')
    await sql`update users set email = ${`new-${actor.email}`} where id = ${actor.userId}`
    expect(codeOf(await verify(token))).toBe('one_time_token_invalid')
    expect((await actor.me()).json()).toMatchObject({ email: `new-${actor.email}`, email_verified: false })
  })

  test('that the account has leaves its other links alone', async () => {
    const actor = await signedUp(app)
    const token = await linkOf(actor)
    expect((await verify(await linkOf(actor, 'email_verify'))).statusCode).toBe(204)
    expect((await reset(token, 'an entirely different phrase')).statusCode).toBe(204)
  })

  test('that is to be new is not sent for a disabled user', async () => {
    const { userId, email: own } = await signedUp(app)
    await sql`update users set is_active = false where id = ${userId}`
    const email = `new-${own}`
    await app.db.rows(requestEmailChange, { ...nobody, userId, email, nonce: 'nonce', digest: randomBytes(32) })
    expect(await sql`select from outbox where recipient = ${email}`).toHaveLength(0)
  })

  test('that is to be new stays when it is asked for once more than mails may go there', async () => {
    const actor = await signedUp(app)
    const email = `new-${actor.email}`
    const link = () =>
      sql`select digest from one_time_tokens where user_id = ${actor.userId} and purpose = 'email_change'`
    const ask = async () => (await actor.send('POST', '/me/email', { email, password })).statusCode
    for (let i = 0; i < 5; i++) expect(await ask()).toBe(202)
    const last = await link()
    expect(await ask()).toBe(202)
    expect([last.length, await link()]).toEqual([1, last])
  })
})

describe('another link to confirm the address', () => {
  const ask = ({ send }: Actor) => send('POST', '/me/email/verification')
  const age = ({ userId }: Actor) =>
    sql`update one_time_tokens set created_at = created_at - interval '61 seconds' where user_id = ${userId}`
  const mails = async ({ email }: Actor) => (await sql`select from outbox where recipient = ${email}`).length

  test('that is asked for within the minute is not sent, and spends none of the mails of the hour', async () => {
    const actor = await signedUp(app)
    for (let i = 0; i < 6; i++) expect((await ask(actor)).statusCode).toBe(202)
    expect(await mails(actor)).toBe(1)
    await age(actor)
    await ask(actor)
    expect(await mails(actor)).toBe(2)
  })

  test('is sent once to who asks several times at the same moment', async () => {
    const actor = await signedUp(app)
    await age(actor)
    const asked = await sql.begin(async (transaction) => {
      await transaction`select from mail_quotas for update`
      const replies = [ask(actor), ask(actor), ask(actor)]
      const waiting = async () => {
        // Within a transaction the view stands still.
        await transaction`select pg_stat_clear_snapshot()`
        return transaction`
          select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
      }
      await expect.poll(waiting, { interval: 10, timeout: 5000 }).toHaveLength(3)
      return { replies }
    })
    expect((await Promise.all(asked.replies)).map(({ statusCode }) => statusCode)).toEqual([202, 202, 202])
    expect(await mails(actor)).toBe(2)
  })

  test('is sent although another kind of link was asked for a moment ago', async () => {
    const actor = await signedUp(app)
    await age(actor)
    await linkOf(actor)
    await ask(actor)
    expect(await mails(actor)).toBe(2)
  })

  test('is not sent to who has no address, or is disabled', async () => {
    const [nameless, disabled] = [await signedUp(app), await signedUp(app)]
    for (const actor of [nameless, disabled]) await age(actor)
    await sql`update users set email = null, username = 'nameless' where id = ${nameless.userId}`
    await sql`update users set is_active = false where id = ${disabled.userId}`
    expect((await ask(nameless)).statusCode).toBe(202)
    const seed = { ...nobody, nonce: 'nonce', digest: randomBytes(32) }
    await app.db.rows(requestVerification, { ...seed, userId: disabled.userId })
    expect([await mails(nameless), await mails(disabled)]).toEqual([1, 1])
    const events = await sql`
      select from audit_events where type = 'email.verification_requested'
        and user_id in (${nameless.userId}, ${disabled.userId})`
    expect(events).toHaveLength(0)
  })
})

import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { describe, expect, test } from 'vitest'
import { form, formOf, metric, password, post, type Reply, signedUp } from '#test/support/actors.ts'
import { linkIn, type Mail, mailsTo, mailTo } from '#test/support/mail.ts'
import { startService } from '#test/support/service.ts'

const { app, sql } = await startService()

const newPassword = 'an entirely different phrase'
const codeOf = (reply: Reply) => reply.json<{ code: string }>().code
const forgot = (email: string) => post(app, '/api/v1/forgot-password', { email })
const reset = (token: string, password = newPassword) =>
  post(app, '/api/v1/reset-password', { token, new_password: password })
const verify = (token: string) => post(app, '/api/v1/verify-email', { token })
const logIn = (username: string, password: string, service: FastifyInstance = app) =>
  service.inject({ method: 'POST', url: '/api/v1/token', headers: form, payload: formOf({ username, password }) })
const statusesOf = (replies: Reply[]) => replies.map(({ statusCode }) => statusCode).toSorted((a, b) => a - b)
const tokenIn = (mail: Mail) => linkIn(mail).split('token=')[1] ?? ''
/** Asks for a reset link and takes it from the mail. */
const resetToken = async (email: string) => {
  const { length } = await mailsTo(app, email)
  await forgot(email)
  return tokenIn(await mailTo(app, email, length))
}

describe('a registration', () => {
  test('sends a link that confirms the address once', async () => {
    const { email, me } = await signedUp(app)
    expect((await me()).json()).toMatchObject({ email_verified: false })
    const mail = await mailTo(app, email)
    expect(linkIn(mail)).toMatch(/^http:\/\/localhost:8000\/account\/verify-email#token=lko_[\w-]{43}$/)
    expect((await verify(tokenIn(mail))).statusCode).toBe(204)
    expect((await me()).json()).toMatchObject({ email_verified: true })
    const again = await verify(tokenIn(mail))
    expect([again.statusCode, codeOf(again)]).toEqual([400, 'one_time_token_invalid'])
  })

  test('that fails queues no mail', async () => {
    const { email } = await signedUp(app)
    await mailTo(app, email)
    expect((await post(app, '/api/v1/users/', { email, password })).statusCode).toBe(409)
    expect(await sql`select id from outbox where recipient = ${email}`).toHaveLength(1)
  })
})

describe('the database', () => {
  test('holds nothing from which a link can be made', async () => {
    const { email, userId } = await signedUp(app)
    const token = await resetToken(email)
    const secret = Buffer.from(token.slice(4), 'base64url')
    const rows =
      await sql`select t.*, o.* from one_time_tokens t join outbox o using (user_id) where user_id = ${userId}`
    const text = JSON.stringify(rows)
    for (const form of [token.slice(4), secret.toString('hex'), secret.toString('base64')])
      expect(text).not.toContain(form)
    const [{ data } = { data: {} }] = await sql<{ data: Record<string, string> }[]>`
      select data from outbox where user_id = ${userId} and template = 'password-reset'`
    expect((await reset(`lko_${String(data['nonce'])}`)).statusCode).toBe(400)
  })
})

describe('a forgotten password', () => {
  test('of an account that is being deleted is answered like any other', async () => {
    const actors = await Promise.all(Array.from({ length: 15 }, () => signedUp(app)))
    const replies = await Promise.all(
      actors.flatMap(({ email, send }) => [send('DELETE', '/me', { password }), forgot(email), forgot(email)]),
    )
    expect(new Set(replies.map(({ statusCode }) => statusCode))).toEqual(new Set([204, 202]))
    // Each deletion lets more requests meet it.
    for (const { email, userId } of await Promise.all(Array.from({ length: 30 }, () => signedUp(app)))) {
      const [, ...asked] = await Promise.all([
        sql`delete from users where id = ${userId}`,
        forgot(email),
        forgot(email),
      ])
      expect(statusesOf(asked)).toEqual([202, 202])
    }
  })

  test('is answered alike for a known and an unknown address, in multiples of 150 ms', async () => {
    const { email } = await signedUp(app)
    const answers = []
    for (const address of [email, `${randomUUID()}@example.com`]) {
      const started = performance.now()
      const { statusCode, body } = await forgot(address)
      answers.push({ statusCode, body })
      expect(performance.now() - started).toBeGreaterThan(149)
    }
    expect(answers[0]).toEqual(answers[1])
    expect(answers[0]?.statusCode).toBe(202)
  })

  test('of a disabled user sends nothing', async () => {
    const { email, userId } = await signedUp(app)
    await sql`update users set is_active = false where id = ${userId}`
    await forgot(email)
    expect(await sql`select id from outbox where user_id = ${userId} and template = 'password-reset'`).toEqual([])
  })

  test('is found without regard to case, and the mail goes to the address of the account', async () => {
    const { email } = await signedUp(app)
    await mailTo(app, email)
    await forgot(email.toUpperCase())
    expect((await mailTo(app, email, 1)).to.address).toBe(email)
  })
})

describe('a reset link', () => {
  test('sets the password, ends every session, confirms the address and tells the owner', async () => {
    const { email, me, refresh } = await signedUp(app)
    const revoked = await metric(app, 'auth_sessions_revoked_total{reason="password_reset"}')
    expect((await reset(await resetToken(email))).statusCode).toBe(204)

    expect([(await me()).statusCode, (await refresh()).statusCode]).toEqual([401, 401])
    expect((await logIn(email, password)).statusCode).toBe(401)
    expect((await logIn(email, newPassword)).statusCode).toBe(200)
    const [user] = await sql`select email_verified_at from users where email = ${email}`
    expect(user?.['email_verified_at']).toBeInstanceOf(Date)
    expect((await mailTo(app, email, 2)).subject).toBe('Your password for Latchkey was changed')
    expect(await metric(app, 'auth_sessions_revoked_total{reason="password_reset"}')).toBe(revoked + 1)
  })

  test('used 20 times at once works once', async () => {
    const { email, userId } = await signedUp(app)
    const token = await resetToken(email)
    const replies = await Promise.all(Array.from({ length: 20 }, (_, i) => reset(token, `${newPassword} ${i}`)))
    expect(statusesOf(replies)).toEqual([204, ...Array<number>(19).fill(400)])
    const winner = replies.findIndex(({ statusCode }) => statusCode === 204)
    expect((await logIn(email, `${newPassword} ${winner}`)).statusCode).toBe(200)
    expect(await sql`select id from audit_events where user_id = ${userId} and type = 'password.reset'`).toHaveLength(1)
  })

  test('survives a password that is refused', async () => {
    const { email } = await signedUp(app)
    const token = await resetToken(email)
    for (const unsuitable of ['short', 'password123', email]) {
      const reply = await reset(token, unsuitable)
      expect([reply.statusCode, codeOf(reply)]).toEqual([400, 'password_unsuitable'])
    }
    expect((await reset(token)).statusCode).toBe(204)
  })

  test('dies with a newer one', async () => {
    const { email } = await signedUp(app)
    const older = await resetToken(email)
    const newer = await resetToken(email)
    expect((await reset(older)).statusCode).toBe(400)
    expect((await reset(newer)).statusCode).toBe(204)
  })

  test('works for 60 minutes', async () => {
    const { email, userId } = await signedUp(app)
    const token = await resetToken(email)
    const [life] = await sql`
      select extract(epoch from expires_at - created_at)::integer as seconds from one_time_tokens
      where user_id = ${userId} and purpose = 'password_reset'`
    expect(life).toEqual({ seconds: 3600 })
    await sql`update one_time_tokens set expires_at = now() where user_id = ${userId}`
    expect(codeOf(await reset(token))).toBe('one_time_token_invalid')
  })

  test.for(['disabled', 'moved to another address', 'changed its password'])(
    'is refused once its account is %s',
    async (change) => {
      const { email, userId, send } = await signedUp(app)
      const token = await resetToken(email)
      if (change === 'disabled') await sql`update users set is_active = false where id = ${userId}`
      else if (change.startsWith('moved')) await sql`update users set email = ${`new-${email}`} where id = ${userId}`
      else await send('POST', '/me/password', { current_password: password, new_password: newPassword })
      expect(codeOf(await reset(token, 'one more phrase to try'))).toBe('one_time_token_invalid')
    },
  )

  test('is no other kind of token, and no other is one', async () => {
    const { email, tokens, refresh, me } = await signedUp(app)
    const verification = tokenIn(await mailTo(app, email))
    const token = await resetToken(email)
    expect(codeOf(await reset(verification))).toBe('one_time_token_invalid')
    expect(codeOf(await verify(token))).toBe('one_time_token_invalid')
    expect(codeOf(await reset(tokens.access_token.slice(0, 500)))).toBe('one_time_token_invalid')
    expect((await refresh(token)).statusCode).toBe(401)
    expect((await me(token)).statusCode).toBe(401)
    for (const malformed of ['', 'lko_', `${token}A`, `${token.slice(0, -1)}!`, token.slice(4)])
      expect((await reset(malformed)).statusCode).toBe(400)
    expect((await reset(token)).statusCode).toBe(204)
  })
})

describe('a change of the address', () => {
  const change = (actor: Awaited<ReturnType<typeof signedUp>>, email: string) =>
    actor.send('POST', '/me/email', { email, password })

  test('takes effect when the new address is confirmed, and the old one is told', async () => {
    const actor = await signedUp(app)
    const email = `${randomUUID()}@example.com`
    expect((await change(actor, email)).statusCode).toBe(202)
    const mail = await mailTo(app, email)
    expect((await actor.me()).json()).toMatchObject({ email: actor.email })
    expect((await verify(tokenIn(mail))).statusCode).toBe(204)
    expect((await actor.me()).json()).toMatchObject({ email, email_verified: true })
    expect((await mailTo(app, actor.email, 1)).subject).toBe('Your e-mail address for Latchkey was changed')
    expect((await logIn(email, password)).statusCode).toBe(200)
  })

  test('needs the password', async () => {
    const { send } = await signedUp(app)
    const reply = await send('POST', '/me/email', { email: 'other@example.com', password: 'wrong password' })
    expect([reply.statusCode, codeOf(reply)]).toEqual([401, 'password_incorrect'])
  })

  test('to an address that is taken is answered alike and sends nothing', async () => {
    const [actor, other] = [await signedUp(app), await signedUp(app)]
    const free = await change(actor, `${randomUUID()}@example.com`)
    const taken = await change(actor, other.email)
    expect([taken.statusCode, taken.body]).toEqual([free.statusCode, free.body])
    expect(await sql`select id from outbox where recipient = ${other.email} and template = 'email-change'`).toEqual([])
  })

  test('to an address that is taken meanwhile is refused', async () => {
    const actor = await signedUp(app)
    const email = `${randomUUID()}@example.com`
    await change(actor, email)
    const token = tokenIn(await mailTo(app, email))
    await post(app, '/api/v1/users/', { email, password })
    expect(codeOf(await verify(token))).toBe('one_time_token_invalid')
    expect((await actor.me()).json()).toMatchObject({ email: actor.email })
  })

  test('that waits is called off by a change of the password', async () => {
    const actor = await signedUp(app)
    const email = `${randomUUID()}@example.com`
    await change(actor, email)
    const token = tokenIn(await mailTo(app, email))
    await actor.send('POST', '/me/password', { current_password: password, new_password: newPassword })
    expect(codeOf(await verify(token))).toBe('one_time_token_invalid')
  })
})

describe('a change of the password', () => {
  test('is told to the owner', async () => {
    const { email, send } = await signedUp(app)
    await send('POST', '/me/password', { current_password: password, new_password: newPassword })
    expect((await mailTo(app, email, 1)).subject).toBe('Your password for Latchkey was changed')
  })
})

describe('with REQUIRE_VERIFIED_EMAIL', () => {
  test('a login waits for the confirmation, and sends the link again after a minute', async () => {
    const { app: strict, sql } = await startService({ REQUIRE_VERIFIED_EMAIL: 'login' })
    const email = `${randomUUID()}@example.com`
    await post(strict, '/api/v1/users/', { email, password })
    await mailTo(strict, email)
    expect((await logIn(email, 'a wrong password', strict)).statusCode).toBe(401)
    const refused = await logIn(email, password, strict)
    expect([refused.statusCode, codeOf(refused)]).toEqual([403, 'email_not_verified'])
    expect(await sql`select id from outbox where recipient = ${email}`).toHaveLength(1)

    await sql`update one_time_tokens set created_at = created_at - interval '61 seconds'`
    await logIn(email, password, strict)
    const token = tokenIn(await mailTo(strict, email, 1))
    expect((await post(strict, '/api/v1/verify-email', { token })).statusCode).toBe(204)
    expect((await logIn(email, password, strict)).statusCode).toBe(200)
  })
})

describe('the limits', () => {
  test('queue nothing after five requests for an address in an hour, and say so to nobody', async () => {
    const { app: limited, sql } = await startService({ RATE_LIMITS: 'on' })
    const email = `${randomUUID()}@example.com`
    await post(limited, '/api/v1/users/', { email, password })
    const ask = () => post(limited, '/api/v1/forgot-password', { email })
    const replies = []
    for (let i = 0; i < 7; i++) replies.push(await ask())
    expect(new Set(replies.map(({ statusCode, body }) => `${statusCode} ${body}`)).size).toBe(1)
    expect(await sql`select id from outbox where template = 'password-reset'`).toHaveLength(5)
  })

  test('refuse an address of the network after 20 requests in ten minutes', async () => {
    const { app: limited } = await startService({ RATE_LIMITS: 'on' })
    const ask = (i: number) => post(limited, '/api/v1/forgot-password', { email: `nobody${i}@example.com` })
    const replies = await Promise.all(Array.from({ length: 21 }, (_, i) => ask(i)))
    expect(statusesOf(replies)).toEqual([...Array<number>(20).fill(202), 429])
  })
})

import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { describe, expect, test } from 'vitest'
import { changeUser } from '#src/features/accounts/administration.ts'
import { form, formOf, metric, password, post, type Reply, signedUp } from '#test/support/actors.ts'
import { linkIn, type Mail, mailsTo, mailTo } from '#test/support/mail.ts'
import { secretKey, startService } from '#test/support/service.ts'

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
  // That of the registration comes first.
  await mailTo(app, email)
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

describe('a reset link that was queued under the former SECRET_KEY', () => {
  test('is sent and works while that is SECRET_KEY_PREVIOUS', async () => {
    const former = await startService({ MAIL_WORKER: 'off' })
    const { email } = await signedUp(former.app)
    await post(former.app, '/api/v1/forgot-password', { email })
    const settings = { SECRET_KEY: 'another-key-for-tests-0123456789-zyxwvuts', SECRET_KEY_PREVIOUS: secretKey }
    const { app: present } = await startService(settings, former)
    const token = tokenIn(await mailTo(present, email, 1))
    const reply = await post(present, '/api/v1/reset-password', { token, new_password: newPassword })
    expect(reply.statusCode).toBe(204)
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

  test('ends every other link of the account, also a change of address that somebody has prepared', async () => {
    const actor = await signedUp(app)
    const verification = tokenIn(await mailTo(app, actor.email))
    const email = `${randomUUID()}@example.com`
    await actor.send('POST', '/me/email', { email, password })
    const change = tokenIn(await mailTo(app, email))
    expect((await reset(await resetToken(actor.email))).statusCode).toBe(204)
    expect([codeOf(await verify(change)), codeOf(await verify(verification))]).toEqual([
      'one_time_token_invalid',
      'one_time_token_invalid',
    ])
    expect(await sql`select email from users where id = ${actor.userId}`).toEqual([{ email: actor.email }])
  })

  test('ends also a session that is being opened at that moment', async () => {
    const { email, userId } = await signedUp(app)
    const [before] = await sql`select session_epoch from users where id = ${userId}`
    await reset(await resetToken(email))
    const [after] = await sql`select session_epoch from users where id = ${userId}`
    expect(after?.['session_epoch']).toBe(Number(before?.['session_epoch']) + 1)
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

  test('is refused in another spelling of the same bytes', async () => {
    const { email } = await signedUp(app)
    const token = await resetToken(email)
    // The last of 43 characters carries four bits; the two below it are ignored by a lenient decoder.
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
    const other = alphabet[alphabet.indexOf(token.at(-1) ?? '') + 1] ?? ''
    const spelling = `${token.slice(0, -1)}${other}`
    expect(Buffer.from(spelling.slice(4), 'base64url')).toEqual(Buffer.from(token.slice(4), 'base64url'))
    expect(codeOf(await reset(spelling))).toBe('one_time_token_invalid')
    expect((await reset(token)).statusCode).toBe(204)
  })

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

describe('a request for another address', () => {
  const ask = (actor: Awaited<ReturnType<typeof signedUp>>, email: string) =>
    actor.send('POST', '/me/email', { email, password })

  test.for(['free', 'taken'])('that is %s ends the one before', async (state) => {
    const [actor, other] = [await signedUp(app), await signedUp(app)]
    const first = `${randomUUID()}@example.com`
    await ask(actor, first)
    const token = tokenIn(await mailTo(app, first))
    await ask(actor, state === 'taken' ? other.email : `${randomUUID()}@example.com`)
    expect(codeOf(await verify(token))).toBe('one_time_token_invalid')
  })

  test('takes the same time, in multiples of 150 ms, whether it is free or taken', async () => {
    const [actor, other] = [await signedUp(app), await signedUp(app)]
    for (const email of [`${randomUUID()}@example.com`, other.email]) {
      const started = performance.now()
      expect((await ask(actor, email)).statusCode).toBe(202)
      expect(performance.now() - started).toBeGreaterThan(149)
    }
  })
})

describe('a link that confirms an address', () => {
  const links = {
    'of a registration': async () => {
      const { email, userId } = await signedUp(app)
      return { userId, purpose: 'email_verify', token: tokenIn(await mailTo(app, email)) }
    },
    'of a change': async () => {
      const { userId, send } = await signedUp(app)
      const email = `${randomUUID()}@example.com`
      await send('POST', '/me/email', { email, password })
      return { userId, purpose: 'email_change', token: tokenIn(await mailTo(app, email)) }
    },
  }

  test.for(Object.entries(links))('%s works for 24 hours', async ([, ask]) => {
    const { userId, purpose, token } = await ask()
    const [life] = await sql`
      select extract(epoch from expires_at - created_at)::integer as seconds from one_time_tokens
      where user_id = ${userId} and purpose = ${purpose}`
    expect(life).toEqual({ seconds: 86_400 })
    await sql`update one_time_tokens set expires_at = now() where user_id = ${userId}`
    expect(codeOf(await verify(token))).toBe('one_time_token_invalid')
  })

  test.for(Object.entries(links))('%s is refused while the user is disabled', async ([, ask]) => {
    const { userId, token } = await ask()
    await sql`update users set is_active = false where id = ${userId}`
    expect(codeOf(await verify(token))).toBe('one_time_token_invalid')
    await sql`update users set is_active = true where id = ${userId}`
    expect((await verify(token)).statusCode).toBe(204)
  })
})

describe('another link to confirm the address', () => {
  const ask = ({ send }: Awaited<ReturnType<typeof signedUp>>) => send('POST', '/me/email/verification')
  const age = (userId: number) =>
    sql`update one_time_tokens set created_at = created_at - interval '61 seconds' where user_id = ${userId}`

  test('is sent once a minute to an address that waits, and ends the one before', async () => {
    const actor = await signedUp(app)
    const first = tokenIn(await mailTo(app, actor.email))
    const early = await ask(actor)
    await age(actor.userId)
    const replies = [early, ...(await Promise.all(Array.from({ length: 10 }, () => ask(actor))))]
    expect(new Set(replies.map(({ statusCode, body }) => `${statusCode} ${body}`)).size).toBe(1)
    expect(early.statusCode).toBe(202)
    const token = tokenIn(await mailTo(app, actor.email, 1))
    expect(await sql`select id from outbox where recipient = ${actor.email}`).toHaveLength(2)
    expect(codeOf(await verify(first))).toBe('one_time_token_invalid')
    expect((await verify(token)).statusCode).toBe(204)
    const events = await sql`
      select actor_id from audit_events where user_id = ${actor.userId} and type = 'email.verification_requested'`
    expect(events).toEqual([{ actor_id: actor.userId }])
  })

  test('is sent where the first has expired and was swept', async () => {
    const actor = await signedUp(app)
    await sql`delete from one_time_tokens where user_id = ${actor.userId}`
    await ask(actor)
    expect((await verify(tokenIn(await mailTo(app, actor.email, 1)))).statusCode).toBe(204)
  })

  test('is not sent to an address that is confirmed, and nobody is told', async () => {
    const actor = await signedUp(app)
    await verify(tokenIn(await mailTo(app, actor.email)))
    expect((await ask(actor)).statusCode).toBe(202)
    expect(await sql`select id from outbox where recipient = ${actor.email}`).toHaveLength(1)
  })

  test('needs an access token', async () => {
    expect((await post(app, '/api/v1/me/email/verification', '')).statusCode).toBe(401)
  })

  test('is sent when an administrator changes the address, and the one to the old address ends', async () => {
    const actor = await signedUp(app)
    const old = tokenIn(await mailTo(app, actor.email))
    const email = `${randomUUID()}@example.com`
    await changeUser(app.core, actor.userId, { email }, { actorId: null, ip: null, userAgent: null, requestId: null })
    const token = tokenIn(await mailTo(app, email))
    expect((await mailTo(app, actor.email, 1)).subject).toBe('Your e-mail address for Latchkey was changed')
    expect(codeOf(await verify(old))).toBe('one_time_token_invalid')
    expect((await verify(token)).statusCode).toBe(204)
    expect((await actor.me()).json()).toMatchObject({ email, email_verified: true })
  })
})

describe('the name in a mail', () => {
  const plain = ['Ada Lovelace', "Zoë O'Neill-Brontë", 'J.R.R. Tolkien', 'राम प्रसाद', '李小龍', 'Dr. Ng']
  const unsafe = [
    'Your account is locked, visit https://evil.example/unlock',
    'evil.example',
    'Go to t.co now',
    'Ada <b>Lovelace</b>',
    'Ada "x" <ada@evil.example>',
    'Ada\u202Eevol',
    'a'.repeat(61),
    '  ',
  ]
  const resetMail = async (full_name: string, isConfirmed: boolean) => {
    const { email, userId } = await signedUp(app, { full_name })
    const verification = await mailTo(app, email)
    if (isConfirmed) await sql`update users set email_verified_at = now() where id = ${userId}`
    await forgot(email)
    return [verification, await mailTo(app, email, 1)] as const
  }

  test.for(plain)('is there when it is plain and the address is confirmed: %s', async (name) => {
    const [verification, mail] = await resetMail(name, true)
    expect([verification.to.name, mail.to.name]).toEqual(['', name])
    expect([verification.text.split('\n')[0], mail.text.split('\n')[0]]).toEqual(['Hello,', `Hello ${name},`])
  })

  test.for(unsafe)('is left out when it is anything else: %s', async (name) => {
    const [, mail] = await resetMail(name, true)
    expect([mail.to.name, mail.text.split('\n')[0]]).toEqual(['', 'Hello,'])
    expect(mail.html).toContain('<p>Hello,</p>')
  })

  test('is not there for an address that is not confirmed', async () => {
    for (const mail of await resetMail('Your account is locked', false)) {
      expect(mail.to.name).toBe('')
      expect(mail.text + mail.html).not.toContain('locked')
    }
  })

  test('is not there for an address that the account had, or is to have', async () => {
    const actor = await signedUp(app, { full_name: 'Mallory' })
    await sql`update users set email_verified_at = now() where id = ${actor.userId}`
    const email = `${randomUUID()}@example.com`
    await actor.send('POST', '/me/email', { email, password })
    const mail = await mailTo(app, email)
    await verify(tokenIn(mail))
    for (const { to, text } of [mail, await mailTo(app, actor.email, 1)])
      expect([to.name, text.split('\n')[0]]).toEqual(['', 'Hello,'])
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
    // The first of the five is that of the registration.
    expect(await sql`select id from outbox where template = 'password-reset'`).toHaveLength(4)
  })

  test('refuse an address of the network after 20 requests in ten minutes', async () => {
    const { app: limited } = await startService({ RATE_LIMITS: 'on' })
    const ask = (i: number) => post(limited, '/api/v1/forgot-password', { email: `nobody${i}@example.com` })
    const replies = await Promise.all(Array.from({ length: 21 }, (_, i) => ask(i)))
    expect(statusesOf(replies)).toEqual([...Array<number>(20).fill(202), 429])
  })
})

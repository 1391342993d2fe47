import { describe, expect, test } from 'vitest'
import { form, formOf, get, password, post, refreshWith, signedUp, type TokenReply } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const { app, sql } = await startService()
const users = '/api/v1/users/'
const codeOf = (reply: { json: () => unknown }) => (reply.json() as { code: string }).code
let counter = 0
const newEmail = () => `kanban-${counter++}@example.com`

describe('POST /api/v1/users/', () => {
  test('registers a user and shows nothing of the password', async () => {
    const email = newEmail()
    const reply = await post(app, users, { email, password, username: 'Ada.L', full_name: 'Ada Lovelace' })
    expect(reply.statusCode).toBe(201)
    expect(reply.headers['cache-control']).toBe('no-store')
    const body = {
      email,
      username: 'Ada.L',
      full_name: 'Ada Lovelace',
      is_active: true,
      roles: ['user'],
      email_verified: false,
    }
    expect(reply.json()).toEqual({
      ...body,
      id: expect.any(Number) as number,
      created_at: expect.any(String) as string,
    })
  })

  test('is served without the trailing slash too', async () => {
    expect((await post(app, '/api/v1/users', { email: newEmail(), password })).statusCode).toBe(201)
  })

  test('answers 409 for an address or a username that is taken, whatever its case', async () => {
    const email = newEmail()
    await post(app, users, { email, password, username: 'taken' })
    const address = await post(app, users, { email: email.toUpperCase(), password })
    expect([address.statusCode, codeOf(address)]).toEqual([409, 'email_taken'])
    const name = await post(app, users, { email: newEmail(), password, username: 'TAKEN' })
    expect([name.statusCode, codeOf(name)]).toEqual([409, 'username_taken'])
  })

  test('ignores what a client may not set', async () => {
    const extra = { id: 1, roles: ['admin'], is_active: false, email_verified: true, created_at: '2000-01-01' }
    const reply = await post(app, users, { email: newEmail(), password, ...extra })
    expect(reply.json()).toMatchObject({ roles: ['user'], is_active: true, email_verified: false })
  })

  test('makes one account of 10 registrations at once', async () => {
    const email = newEmail()
    const replies = await Promise.all(Array.from({ length: 10 }, () => post(app, users, { email, password })))
    expect(replies.map(({ statusCode }) => statusCode).toSorted((a, b) => a - b)).toEqual([
      201,
      ...Array<number>(9).fill(409),
    ])
  })
})

describe('POST /api/v1/token', () => {
  test.each(['form', 'json'])('takes a %s', async (kind) => {
    const { email } = await signedUp(app)
    const fields = { username: email, password, grant_type: 'password', scope: '', client_id: '', client_secret: '' }
    const reply =
      kind === 'json'
        ? await post(app, '/api/v1/token', fields)
        : await post(app, '/api/v1/token', formOf(fields), form)
    expect(reply.statusCode).toBe(200)
    expect(reply.headers['cache-control']).toBe('no-store')
    const tokens = { access_token: expect.any(String) as string, refresh_token: expect.any(String) as string }
    expect(reply.json()).toEqual({ ...tokens, token_type: 'bearer', expires_in: 1800 })
  })

  test('takes e-mail address or username without regard to case', async () => {
    const { email } = await signedUp(app, { username: 'grace.h' })
    for (const username of [email.toUpperCase(), 'Grace.H'])
      expect((await post(app, '/api/v1/token', { username, password })).statusCode).toBe(200)
  })

  test('answers alike for a wrong password, an unknown name and a disabled account', async () => {
    const { email, userId } = await signedUp(app)
    const wrong = await post(app, '/api/v1/token', { username: email, password: 'not the password' })
    const unknown = await post(app, '/api/v1/token', { username: newEmail(), password })
    await sql`update users set is_active = false where id = ${userId}`
    const disabled = await post(app, '/api/v1/token', { username: email, password })
    expect([wrong.statusCode, wrong.headers['www-authenticate']]).toEqual([401, 'Bearer realm="latchkey"'])
    expect(unknown.body).toBe(wrong.body)
    expect(disabled.body).toBe(wrong.body)
  })

  test('gives different tokens for two logins in the same second', async () => {
    const { logIn } = await signedUp(app)
    const [a, b] = (await Promise.all([logIn(), logIn()])).map((reply) => reply.json<TokenReply>())
    expect(a?.access_token).not.toBe(b?.access_token)
    expect(a?.refresh_token).not.toBe(b?.refresh_token)
  })
})

describe('POST /api/v1/logout', () => {
  test('ends every session of the user, and is idempotent', async () => {
    const { tokens, logIn, logOut, me } = await signedUp(app)
    const other = (await logIn()).json<TokenReply>()
    expect((await logOut()).statusCode).toBe(204)
    expect((await logOut()).statusCode).toBe(204)
    for (const { access_token: access, refresh_token: refresh } of [tokens, other]) {
      expect((await me(access)).statusCode).toBe(401)
      expect((await refreshWith(app, refresh)).statusCode).toBe(401)
    }
  })

  test('with scope local ends this session only, with scope others all but this one', async () => {
    const { logIn, logOut, me } = await signedUp(app)
    const other = (await logIn()).json<TokenReply>()
    await logOut('local')
    expect([(await me()).statusCode, (await me(other.access_token)).statusCode]).toEqual([401, 200])

    const person = await signedUp(app)
    const second = (await person.logIn()).json<TokenReply>()
    await person.logOut('others')
    expect([(await person.me()).statusCode, (await person.me(second.access_token)).statusCode]).toEqual([200, 401])
    expect((await person.refresh()).statusCode).toBe(200)
  })

  test('works with an expired access token if a valid refresh token comes along', async () => {
    const { userId, tokens, refresh } = await signedUp(app)
    const [row] = await sql`select id from sessions where user_id = ${userId}`
    const sessionExpiresAt = new Date(Date.now() - 60_000)
    const subject = { userId, roles: ['user'], sessionId: String(row?.['id']), sessionExpiresAt }
    const authorization = `Bearer ${app.core.accessTokens.sign(subject).accessToken}`
    const alone = await post(app, '/api/v1/logout', {}, { authorization })
    expect([alone.statusCode, codeOf(alone)]).toEqual([401, 'token_expired'])
    const together = await post(app, '/api/v1/logout', { refresh_token: tokens.refresh_token }, { authorization })
    expect(together.statusCode).toBe(204)
    expect(codeOf(await refresh())).toBe('refresh_token_revoked')
  })

  test('by the access token of an ended session changes nothing', async () => {
    const { logIn, logOut, me } = await signedUp(app)
    await logOut()
    const fresh = (await logIn()).json<TokenReply>()
    expect((await logOut()).statusCode).toBe(204)
    expect((await me(fresh.access_token)).statusCode).toBe(200)
  })

  test.each([
    ['local', [401, 200]],
    ['others', [200, 401]],
    ['global', [401, 401]],
  ])('by a refresh token alone keeps to the scope %s', async (scope, expected) => {
    const { tokens, logIn, me } = await signedUp(app)
    const other = (await logIn()).json<TokenReply>()
    const reply = await post(app, '/api/v1/logout', formOf({ refresh_token: tokens.refresh_token, scope }), form)
    expect(reply.statusCode).toBe(204)
    expect([(await me()).statusCode, (await me(other.access_token)).statusCode]).toEqual(expected)
  })

  test('by a refresh token that was spent long ago is a reuse, and ends its session only', async () => {
    const { tokens, refresh, logIn, me, userId } = await signedUp(app)
    await refresh()
    await sql`
      update refresh_tokens t set issued_at = now() - interval '1 hour' from sessions s
      where s.id = t.session_id and s.user_id = ${userId}`
    const other = (await logIn()).json<TokenReply>()
    expect(codeOf(await post(app, '/api/v1/logout', { refresh_token: tokens.refresh_token }))).toBe(
      'refresh_token_reused',
    )
    expect([(await me()).statusCode, (await me(other.access_token)).statusCode]).toEqual([401, 200])
  })

  test('needs a token, and a scope that exists', async () => {
    expect((await post(app, '/api/v1/logout', {})).statusCode).toBe(401)
    const { send, me } = await signedUp(app)
    expect((await send('POST', '/logout', { scope: 'everything' })).statusCode).toBe(400)
    expect((await me()).statusCode).toBe(200)
  })
})

describe('/api/v1/me', () => {
  test('shows, changes and deletes the account', async () => {
    const { email, send, me, refresh, userId } = await signedUp(app)
    expect((await me()).json()).toMatchObject({ id: userId, email })
    const changed = await send('PATCH', '/me', { full_name: 'Grace Hopper', username: 'hopper' })
    expect(changed.json()).toMatchObject({ full_name: 'Grace Hopper', username: 'hopper' })
    expect((await send('PATCH', '/me', { full_name: null })).json()).toMatchObject({
      full_name: null,
      username: 'hopper',
    })
    expect((await send('PATCH', '/me', { roles: ['admin'] })).statusCode).toBe(400)

    expect(codeOf(await send('DELETE', '/me', { password: 'wrong password' }))).toBe('password_incorrect')
    expect((await send('DELETE', '/me', { password })).statusCode).toBe(204)
    expect((await me()).statusCode).toBe(401)
    expect(codeOf(await refresh())).toBe('refresh_token_invalid')
    const left = await sql`select type, ip from audit_events where user_id = ${userId}`
    expect(left.map(({ type }) => type as string)).toEqual(['user.deleted'])
  })

  test('keeps a username for one person, who may change its case', async () => {
    const [ada, bob] = [await signedUp(app, { username: 'the.ada' }), await signedUp(app)]
    const taken = await bob.send('PATCH', '/me', { username: 'THE.ADA' })
    expect([taken.statusCode, codeOf(taken)]).toEqual([409, 'username_taken'])
    expect((await ada.send('PATCH', '/me', { username: 'The.Ada' })).json()).toMatchObject({ username: 'The.Ada' })
  })

  test('frees the address when it is deleted, and takes every session with it', async () => {
    const { email, send, logIn, me, userId } = await signedUp(app)
    const other = (await logIn()).json<TokenReply>()
    await send('DELETE', '/me', { password })
    expect((await me(other.access_token)).statusCode).toBe(401)
    expect((await logIn()).statusCode).toBe(401)
    const again = await post(app, users, { email, password })
    expect([again.statusCode, again.json<{ id: number }>().id === userId]).toEqual([201, false])
  })

  test('is refused on the next request once the user is disabled', async () => {
    const { me, userId } = await signedUp(app)
    await sql`update users set is_active = false where id = ${userId}`
    expect(codeOf(await me())).toBe('user_disabled')
  })
})

describe('POST /api/v1/me/password', () => {
  test('sets the password and ends the other sessions', async () => {
    const { email, send, me, logIn } = await signedUp(app)
    const other = (await logIn()).json<TokenReply>()
    const next = 'another correct horse battery'
    expect((await send('POST', '/me/password', { current_password: password, new_password: next })).statusCode).toBe(
      204,
    )
    expect([(await me()).statusCode, (await me(other.access_token)).statusCode]).toEqual([200, 401])
    expect((await logIn()).statusCode).toBe(401)
    expect((await post(app, '/api/v1/token', { username: email, password: next })).statusCode).toBe(200)
  })

  test('ends also a session that is being opened with the old password at the same moment', async () => {
    for (let round = 0; round < 10; round++) {
      const { send, logIn, me } = await signedUp(app)
      const change = send('POST', '/me/password', {
        current_password: password,
        new_password: `another battery ${round}`,
      })
      const [login] = await Promise.all([logIn(), change])
      if (login.statusCode === 200) expect((await me(login.json<TokenReply>().access_token)).statusCode).toBe(401)
    }
  })

  test('refuses a wrong current password and an unsuitable new one, naming the field', async () => {
    const { send } = await signedUp(app)
    const wrong = await send('POST', '/me/password', {
      current_password: 'wrong password',
      new_password: 'another battery',
    })
    expect([wrong.statusCode, codeOf(wrong)]).toEqual([401, 'password_incorrect'])
    const weak = await send('POST', '/me/password', { current_password: password, new_password: 'password1' })
    expect([weak.statusCode, weak.json<{ errors: unknown[] }>().errors]).toEqual([
      400,
      [{ pointer: '/new_password', detail: 'is too common' }],
    ])
  })
})

describe('/api/v1/me/sessions', () => {
  test('lists the logins that stand and ends one of them', async () => {
    const { send, logIn, me } = await signedUp(app)
    const other = (await logIn({ 'user-agent': 'Phone/1.0' })).json<TokenReply>()
    const listed = (await send('GET', '/me/sessions')).json<{ id: string; current: boolean; user_agent: string }[]>()
    expect(listed.filter(({ current }) => current).length).toBe(1)
    expect(listed.length).toBe(2)
    const phone = listed.find(({ current }) => !current)
    expect(phone?.user_agent).toBe('Phone/1.0')
    expect((await send('DELETE', `/me/sessions/${phone?.id}`)).statusCode).toBe(204)
    expect((await me(other.access_token)).statusCode).toBe(401)
    expect((await send('GET', '/me/sessions')).json<unknown[]>().length).toBe(1)
  })

  test('shows of each when and where it was used, and that this one is current', async () => {
    const { send, refresh } = await signedUp(app)
    await refresh()
    const [session] = (await send('GET', '/me/sessions')).json<Record<string, string>[]>()
    expect(session).toEqual({
      id: expect.stringMatching(/^[0-9a-f-]{36}$/) as string,
      created_at: expect.any(String) as string,
      last_used_at: expect.any(String) as string,
      expires_at: expect.any(String) as string,
      ip: '127.0.0.1',
      user_agent: 'lightMyRequest',
      current: true,
    })
    const at = (name: string) => Date.parse(session?.[name] ?? '')
    expect(at('last_used_at')).toBeGreaterThan(at('created_at'))
    expect(at('expires_at') - at('created_at')).toBe(30 * 86_400_000)
  })

  test('leaves out what has expired', async () => {
    const { send, logIn, userId } = await signedUp(app)
    await logIn()
    const [first] = await sql`select id from sessions where user_id = ${userId} order by created_at`
    await sql`update refresh_tokens set expires_at = now() where session_id = ${first?.['id'] as string}`
    expect((await send('GET', '/me/sessions')).json<unknown[]>().length).toBe(1)
  })

  test('can end the current one, and answers 404 for one that has ended or never was', async () => {
    const { send, me, logIn } = await signedUp(app)
    const other = (await logIn()).json<TokenReply>()
    const listed = (await send('GET', '/me/sessions')).json<{ id: string; current: boolean }[]>()
    const path = `/api/v1/me/sessions/${listed.find(({ current }) => current)?.id}`
    const headers = { authorization: `Bearer ${other.access_token}` }
    expect((await send('DELETE', path.slice('/api/v1'.length))).statusCode).toBe(204)
    expect((await me()).statusCode).toBe(401)
    for (const url of [path, '/api/v1/me/sessions/019a3b92-ad1f-751a-89a7-4998737bc2e6'])
      expect((await app.inject({ method: 'DELETE', url, headers })).statusCode).toBe(404)
  })

  test("answers for another user's session as for one that does not exist", async () => {
    const [ada, bob] = [await signedUp(app), await signedUp(app)]
    const [session] = (await bob.send('GET', '/me/sessions')).json<{ id: string }[]>()
    expect((await ada.send('DELETE', `/me/sessions/${session?.id}`)).statusCode).toBe(404)
    expect((await bob.me()).statusCode).toBe(200)
  })
})

describe('POST /api/v1/validate', () => {
  test('tells who the token is of, and refuses it once the session has ended', async () => {
    const { send, email, userId, logOut } = await signedUp(app)
    const reply = (await send('POST', '/validate')).json<Record<string, unknown>>()
    expect(reply).toMatchObject({ valid: true, email, user_id: userId, roles: ['user'], username: null })
    expect(Date.parse(String(reply['expires_at']))).toBeGreaterThan(Date.now())
    await logOut()
    expect((await send('POST', '/validate')).statusCode).toBe(401)
  })
})

describe('a refresh token in a cookie', () => {
  const transport = { 'x-token-transport': 'cookie' }
  const cookieOf = (reply: { cookies: { name: string; value: string }[] }) => {
    const [cookie] = reply.cookies
    return { cookie: `${cookie?.name}=${cookie?.value}` }
  }

  test('is asked for at login, kept from script, sent to refresh and logout only', async () => {
    const login = await (await signedUp(app)).logIn(transport)
    expect(login.json()).not.toHaveProperty('refresh_token')
    expect(
      login.cookies.map(({ path, httpOnly, sameSite, secure }) => [path, httpOnly, sameSite, secure ?? false]),
    ).toEqual([
      ['/api/v1/refresh', true, 'Strict', false],
      ['/api/v1/logout', true, 'Strict', false],
    ])
    const refreshed = await post(app, '/api/v1/refresh', {}, { ...transport, ...cookieOf(login) })
    expect(refreshed.statusCode).toBe(200)
    expect(refreshed.json()).not.toHaveProperty('refresh_token')
    expect(cookieOf(refreshed)).not.toEqual(cookieOf(login))
  })

  test('is Secure in production', async () => {
    const secure = await startService({ ENVIRONMENT: 'production', PUBLIC_URL: 'https://auth.example.com' })
    const login = await (await signedUp(secure.app)).logIn(transport)
    expect(login.cookies.map(({ name, secure: flag }) => [name, flag])).toEqual(
      Array.from({ length: 2 }, () => ['__Secure-latchkey_refresh', true]),
    )
  })

  test('is not taken from another site', async () => {
    const login = await (await signedUp(app)).logIn(transport)
    const withoutHeader = await post(app, '/api/v1/refresh', {}, cookieOf(login))
    const crossSite = { ...cookieOf(login), ...transport, 'sec-fetch-site': 'cross-site' }
    expect(codeOf(withoutHeader)).toBe('csrf_rejected')
    expect(codeOf(await post(app, '/api/v1/refresh', {}, crossSite))).toBe('csrf_rejected')
  })

  test('outlives a fault', async () => {
    const { logIn, userId } = await signedUp(app)
    const login = await logIn(transport)
    await sql.begin(async (tx) => {
      await tx`select from sessions where user_id = ${userId} for update`
      const reply = await post(app, '/api/v1/refresh', {}, { ...transport, ...cookieOf(login) })
      expect([reply.statusCode, reply.cookies]).toEqual([503, []])
    })
    const retried = await post(app, '/api/v1/refresh', {}, { ...transport, ...cookieOf(login) })
    expect(retried.statusCode).toBe(200)
  })

  test('goes with a reuse', async () => {
    const { logIn } = await signedUp(app)
    const login = await logIn(transport)
    await post(app, '/api/v1/refresh', {}, { ...transport, ...cookieOf(login) })
    await sql`update refresh_tokens set issued_at = now() - interval '1 hour'`
    const reused = await post(app, '/api/v1/refresh', {}, { ...transport, ...cookieOf(login) })
    expect(codeOf(reused)).toBe('refresh_token_reused')
    expect(reused.cookies.map(({ path, value }) => [path, value])).toEqual([
      ['/api/v1/refresh', ''],
      ['/api/v1/logout', ''],
    ])
  })

  test('is left alone by a client that sends its token in the body', async () => {
    const { tokens } = await signedUp(app)
    const reply = await post(app, '/api/v1/refresh', { refresh_token: tokens.refresh_token }, transport)
    expect([reply.json(), reply.cookies]).toEqual([
      expect.objectContaining({ refresh_token: expect.any(String) as string }),
      [],
    ])
  })

  test('outlives superseded, and goes with logout', async () => {
    const login = await (await signedUp(app)).logIn(transport)
    const second = await post(app, '/api/v1/refresh', {}, { ...transport, ...cookieOf(login) })
    const third = await post(app, '/api/v1/refresh', {}, { ...transport, ...cookieOf(second) })
    const superseded = await post(app, '/api/v1/refresh', {}, { ...transport, ...cookieOf(login) })
    expect([codeOf(superseded), superseded.cookies]).toEqual(['refresh_token_superseded', []])

    const out = await post(app, '/api/v1/logout', {}, { ...transport, ...cookieOf(third) })
    expect([out.statusCode, out.cookies.map(({ value }) => value)]).toEqual([204, ['', '']])
    const revoked = await post(app, '/api/v1/refresh', {}, { ...transport, ...cookieOf(third) })
    expect([codeOf(revoked), revoked.cookies.length]).toEqual(['refresh_token_revoked', 2])
  })
})

describe('GET /api/v1/health', () => {
  test('answers', async () => {
    expect((await get(app, '/api/v1/health')).json()).toEqual({ status: 'ok' })
  })
})

describe('POST /api/v1/refresh', () => {
  test('without a token is a 401 that says so, with or without a body', async () => {
    for (const reply of [
      await post(app, '/api/v1/refresh', {}),
      await app.inject({ method: 'POST', url: '/api/v1/refresh' }),
    ])
      expect([reply.statusCode, codeOf(reply)]).toEqual([401, 'refresh_token_missing'])
  })
})

const behindToken = [
  ['GET', '/me'],
  ['PATCH', '/me'],
  ['DELETE', '/me'],
  ['POST', '/me/password'],
  ['GET', '/me/sessions'],
  ['DELETE', '/me/sessions/019a3b92-ad1f-751a-89a7-4998737bc2e6'],
  ['POST', '/validate'],
] as const

describe('a route of an account', () => {
  test.each(behindToken)('%s %s needs an access token, with a trailing slash too', async (method, path) => {
    for (const url of [`/api/v1${path}`, `/api/v1${path}/`]) {
      const reply = await app.inject({ method, url })
      expect([reply.statusCode, codeOf(reply), reply.headers['cache-control']]).toEqual([
        401,
        'token_missing',
        'no-store',
      ])
    }
  })

  test.each(behindToken)('%s %s is refused once the session has ended', async (method, path) => {
    const { send, logOut } = await signedUp(app)
    await logOut()
    expect(codeOf(await send(method, path))).toBe('session_revoked')
  })
})

describe('a trailing slash', () => {
  test.each(['/users', '/token', '/refresh', '/logout'])('is ignored by POST %s', async (path) => {
    const replies = await Promise.all([path, `${path}/`].map((each) => post(app, `/api/v1${each}`, { a: 1 })))
    expect(replies[0]?.statusCode).toBeOneOf([400, 401])
    expect(replies[1]?.body).toBe(replies[0]?.body)
  })
})

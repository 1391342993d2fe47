import { once } from 'node:events'
import { connect } from 'node:net'
import { describe, expect, test } from 'vitest'
import { catalogue, type ProblemCode } from '#src/problem.ts'
import { form, get, password, post, signedUp, type TokenReply } from '#test/support/actors.ts'
import { cloneDatabase, startService } from '#test/support/service.ts'

const { app, sql } = await startService()
const limited = await startService({ RATE_LIMITS: 'on' })
const json = { 'content-type': 'application/json' }
/** Those that are met here at `/token`, `/refresh` and `/oauth`. */
const ofOAuth =
  /^(grant_type_unsupported|client_invalid|email_not_verified|credentials_invalid|refresh_token_\w+|csrf_rejected|too_many_requests|unavailable)$/
const fields = ['type', 'title', 'status', 'detail', 'code']

interface Answer {
  readonly statusCode: number
  readonly headers: Record<string, unknown>
  readonly body: string
}

const tokensOf = (reply: { json: () => unknown }) => reply.json() as TokenReply
const register = (extra: object) => post(app, '/api/v1/users/', { email: 'new@example.com', password, ...extra })
/** Moves every token of the user into the past, out of the window. */
const age = (userId: number) => sql`
  update refresh_tokens t set issued_at = now() - interval '1 hour'
  from sessions s where s.id = t.session_id and s.user_id = ${userId}`

/** How a client meets each problem. */
const causes: Record<ProblemCode, () => Promise<Answer>> = {
  invalid_request: () => post(app, '/api/v1/users/', {}),
  malformed_authorization: () => get(app, '/api/v1/me', { authorization: 'Bearer a b' }),
  csrf_rejected: () => post(app, '/api/v1/refresh', {}, { cookie: 'latchkey_refresh=x' }),
  password_unsuitable: () => register({ password: 'password' }),
  credentials_invalid: () => post(app, '/api/v1/token', { username: 'nobody', password }),
  password_incorrect: async () => (await signedUp(app)).send('DELETE', '/me', { password: 'wrong password' }),
  token_missing: () => get(app, '/api/v1/me'),
  token_invalid: () => get(app, '/api/v1/me', { authorization: 'Bearer x' }),
  token_expired: async () => {
    const { userId, me } = await signedUp(app)
    const subject = { userId, roles: [], sessionId: crypto.randomUUID(), sessionExpiresAt: new Date(1000) }
    return me(app.core.accessTokens.sign(subject).accessToken)
  },
  session_revoked: async () => {
    const { logOut, me } = await signedUp(app)
    await logOut()
    return me()
  },
  session_expired: async () => {
    const { userId, me } = await signedUp(app)
    await sql`update sessions set expires_at = now() where user_id = ${userId}`
    return me()
  },
  user_disabled: async () => {
    const { userId, me } = await signedUp(app)
    await sql`update users set is_active = false where id = ${userId}`
    return me()
  },
  refresh_token_missing: () => post(app, '/api/v1/refresh', {}),
  refresh_token_invalid: () => post(app, '/api/v1/refresh', { refresh_token: 'x' }),
  refresh_token_expired: async () => {
    const { userId, refresh } = await signedUp(app)
    await sql`update sessions set expires_at = now() where user_id = ${userId}`
    return refresh()
  },
  refresh_token_revoked: async () => {
    const { logOut, refresh } = await signedUp(app)
    await logOut()
    return refresh()
  },
  refresh_token_user_disabled: async () => {
    const { userId, refresh } = await signedUp(app)
    await sql`update users set is_active = false where id = ${userId}`
    return refresh()
  },
  refresh_token_superseded: async () => {
    const { refresh } = await signedUp(app)
    await refresh(tokensOf(await refresh()).refresh_token)
    return refresh()
  },
  refresh_token_reused: async () => {
    const { userId, refresh } = await signedUp(app)
    await refresh(tokensOf(await refresh()).refresh_token)
    await age(userId)
    return refresh()
  },
  already_registered: async () => {
    const { app: signup } = await startService({ CONTRACTS: 'auth-signup' })
    const sign = () => post(signup, '/auth/signup', { username: 'twice', email: 'twice@example.com', password })
    await sign()
    return sign()
  },
  one_time_token_invalid: () => post(app, '/api/v1/verify-email', { token: `lko_${'A'.repeat(43)}` }),
  email_not_verified: async () => {
    const { app: strict } = await startService({ REQUIRE_VERIFIED_EMAIL: 'login' })
    await post(strict, '/api/v1/users/', { email: 'new@example.com', password })
    return post(strict, '/api/v1/token', { username: 'new@example.com', password })
  },
  grant_type_unsupported: () => post(app, '/oauth/token', 'grant_type=implicit', form),
  client_invalid: () => post(app, '/oauth/introspect', 'token=x', form),
  insufficient_scope: async () => (await signedUp(app)).send('GET', '/users'),
  last_admin: async () => {
    const { userId, send } = await signedUp(app)
    await sql`update users set roles = '{admin}' where id = ${userId}`
    return send('DELETE', '/me', { password })
  },
  not_found: () => get(app, '/nowhere'),
  method_not_allowed: () => get(app, '/api/v1/token'),
  email_taken: async () => register({ email: (await signedUp(app)).email.toUpperCase() }),
  username_taken: async () => {
    await signedUp(app, { username: 'taken' })
    return register({ username: 'Taken' })
  },
  body_too_large: () => post(app, '/api/v1/users/', 'x'.repeat(65_537), json),
  media_type_unsupported: () => post(app, '/api/v1/users/', 'x', { 'content-type': 'text/plain' }),
  too_many_requests: async () => {
    const logIn = () => post(limited.app, '/api/v1/token', { username: 'nobody', password: 'x' })
    for (let i = 0; i < 10; i++) await logIn()
    return logIn()
  },
  headers_too_large: async () => {
    const { port, hostname } = new URL(await app.listen({ port: 0 }))
    return received(Number(port), hostname, `GET /health HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`)
  },
  outcome_unknown: async () => {
    const service = await startService()
    const { userId, send } = await signedUp(service.app)
    await service.sql.unsafe(`begin; select from users where id = ${userId} for update`)
    const change = send('PATCH', '/me', { full_name: 'X' })
    for (let cut: readonly unknown[] = []; cut.length === 0;)
      cut = await sql`
        select pg_terminate_backend(pid) from pg_stat_activity
        where wait_event_type = 'Lock' and datname = ${new URL(service.url).pathname.slice(1)}`
    await service.sql`rollback`
    return change
  },
  internal_error: async () => {
    const broken = await startService()
    const { me } = await signedUp(broken.app)
    await broken.sql`alter table users rename column full_name to away`
    return me()
  },
  unavailable: async () => {
    const { userId, refresh } = await signedUp(app)
    return sql.begin(async (tx) => {
      await tx`select from sessions where user_id = ${userId} for update`
      return refresh()
    })
  },
}

describe('the problem', () => {
  test.for(Object.entries(causes))('%s has the status and the body of the catalogue', async ([code, cause]) => {
    const [status, error] = catalogue[code as ProblemCode]
    const { statusCode, headers, body } = await cause()
    const problem = JSON.parse(body) as Record<string, unknown>
    expect(problem).toMatchObject({
      type: 'about:blank',
      status,
      code,
      detail: expect.stringMatching(/\.$|: /) as string,
    })
    expect(statusCode).toBe(status)
    const members = error === null ? fields : [...fields, 'error', 'error_description']
    expect(
      Object.keys(problem)
        .filter((name) => name !== 'errors')
        .toSorted(),
    ).toEqual(members.toSorted())
    if (error !== null) expect([problem['error'], problem['error_description']]).toEqual([error, problem['detail']])
    expect(headers['cache-control']).toBe('no-store')
    expect(headers['content-type']).toBe(ofOAuth.test(code) ? 'application/json' : 'application/problem+json')
    if (status === 401)
      expect(headers['www-authenticate']).toMatch(/^(Bearer realm="latchkey"(, error="invalid_token", |$)|Basic )/)
    if (status === 405) expect(headers['allow']).toBe('POST')
    if (status === 429 || status === 503) expect(headers['retry-after']).toMatch(/^[1-9]\d*$/)
  })

  test('of a path that cannot be read is one too', async () => {
    for (const [url, code] of [
      ['/%ff', 'invalid_request'],
      ['//[', 'not_found'],
      [`/api/v1/me/sessions/${'a'.repeat(200)}`, 'not_found'],
      ['/docs/static/\\', 'not_found'],
    ] as const) {
      const reply = await app.inject({ method: url.includes('sessions') ? 'DELETE' : 'GET', url })
      expect([url, reply.statusCode, reply.json<{ code: string }>().code]).toEqual([url, catalogue[code][0], code])
      expect(reply.headers['x-content-type-options']).toBe('nosniff')
    }
  })

  test('of a defect says nothing about the inside', async () => {
    const { body } = await causes.internal_error()
    expect(body).not.toMatch(/full_name|column|42703|select|node_modules/)
  })
})

describe('a database that is gone', () => {
  test('is a 503 with Retry-After on every route that needs it, and never a 401', async () => {
    const service = await startService()
    const { tokens, email, send, refresh, logIn } = await signedUp(service.app)
    const outside = await cloneDatabase()
    await outside.sql.unsafe(`drop database ${new URL(service.url).pathname.slice(1)} with (force)`)
    const replies = await Promise.all([
      send('GET', '/me'),
      send('PATCH', '/me', { full_name: 'X' }),
      send('DELETE', '/me', { password }),
      send('POST', '/me/password', { current_password: password, new_password: 'another battery' }),
      send('GET', '/me/sessions'),
      send('DELETE', '/me/sessions/019a3b92-ad1f-751a-89a7-4998737bc2e6'),
      send('POST', '/validate'),
      send('POST', '/logout'),
      refresh(),
      logIn(),
      post(service.app, '/api/v1/token', { username: 'nobody', password }),
      post(service.app, '/api/v1/users/', { email: 'new@example.com', password }),
      post(service.app, '/api/v1/logout', { refresh_token: tokens.refresh_token }),
      get(service.app, '/ready'),
    ])
    for (const { statusCode, headers, body } of replies) {
      expect([statusCode, headers['retry-after']]).toEqual([503, '2'])
      expect(body).toContain('"code":"unavailable"')
      expect(body).not.toContain(email)
    }
    expect((await get(service.app, '/health')).statusCode).toBe(200)
  })
})

/** What a server answers to bytes that are not a request. */
async function received(port: number, host: string, bytes: string): Promise<Answer> {
  const socket = connect(port, host)
  await once(socket, 'connect')
  socket.write(bytes)
  const text = Buffer.concat((await socket.toArray()) as Buffer[]).toString()
  const [head = '', body = ''] = text.split('\r\n\r\n')
  const [first = '', ...lines] = head.split('\r\n')
  const headers = Object.fromEntries(lines.map((line) => line.toLowerCase().split(': ')))
  return { statusCode: Number(first.split(' ')[1]), headers, body }
}

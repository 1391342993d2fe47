import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { logIn } from '#src/features/login/password.ts'
import { authenticate } from '#src/features/sessions/authenticate.ts'
import { endOneSession, logOut } from '#src/features/sessions/logout.ts'
import { listSessions } from '#src/features/sessions/sessions.ts'
import { password, post, signedUp, type TokenReply } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const { app, sql } = await startService()
const origin = { ip: '192.0.2.1', userAgent: 'Test/1.0', requestId: 'request-1' }
const eventsOf = async (userId: number) =>
  (await sql`select type from audit_events where user_id = ${userId} order by id`).map(({ type }) => type as string)

describe('a login', () => {
  test('opens one session with one token, and tells the audit trail from where', async () => {
    const { email, userId } = await signedUp(app)
    await sql`delete from sessions where user_id = ${userId}`
    await logIn(app.core, email, password, origin)
    const [session] = await sql`
      select s.ip, s.user_agent, s.generation, (select count(*)::integer from refresh_tokens t where t.session_id = s.id) as tokens,
        e.ip as event_ip, e.user_agent as event_agent, e.request_id, e.actor_id = s.user_id as by_user
      from sessions s join audit_events e on e.session_id = s.id and e.type = 'login.succeeded' where s.user_id = ${userId}`
    expect(session).toEqual({
      ip: '192.0.2.1',
      user_agent: 'Test/1.0',
      generation: 0,
      tokens: 1,
      event_ip: '192.0.2.1',
      event_agent: 'Test/1.0',
      request_id: 'request-1',
      by_user: true,
    })
  })

  test('that is refused opens nothing and leaves an event', async () => {
    const { email, userId } = await signedUp(app)
    await expect(logIn(app.core, email, 'wrong password', origin)).rejects.toThrow('credentials_invalid')
    await sql`update users set is_active = false where id = ${userId}`
    await expect(logIn(app.core, email, password, origin)).rejects.toThrow('credentials_invalid')
    expect(await eventsOf(userId)).toEqual(['user.registered', 'login.succeeded', 'login.failed', 'login.disabled'])
    expect(await sql`select id from sessions where user_id = ${userId}`).toHaveLength(1)
  })

  test('of nobody leaves an event without a name', async () => {
    const name = `nobody-${randomUUID()}`
    await expect(logIn(app.core, name, password, { ...origin, requestId: name })).rejects.toThrow('credentials_invalid')
    const [event] =
      await sql`select row_to_json(e)::text as text, user_id from audit_events e where request_id = ${name}`
    expect(event?.['user_id']).toBeNull()
    expect(String(event?.['text']).split(name)).toHaveLength(2)
  })

  test('keeps no more than 400 characters of a user agent', async () => {
    const { logIn: again, userId } = await signedUp(app)
    expect((await again({ 'user-agent': 'x'.repeat(5000) })).statusCode).toBe(200)
    const [row] = await sql`select max(length(user_agent))::integer as length from sessions where user_id = ${userId}`
    expect(row?.['length']).toBe(400)
  })

  test('that meets a logout from everywhere is before or after it: no session is left over from before', async () => {
    for (let round = 0; round < 20; round++) {
      const { logIn: again, logOut: leave, me } = await signedUp(app)
      const [login] = await Promise.all([again(), leave()])
      const { access_token: token } = login.json<TokenReply>()
      const ended = (await me(token)).statusCode === 401
      const [row] = await sql`
        select u.session_epoch = s.epoch and s.revoked_at is null as stands from sessions s
        join users u on u.id = s.user_id where s.id = ${sidOf(token)}`
      expect(row?.['stands']).toBe(!ended)
    }
  })
})

describe('a login whose password is checked while the account changes', () => {
  /** Logs in; `act` runs while the statement that opens the session waits for the row of the user. */
  async function loginDuring(user: Awaited<ReturnType<typeof signedUp>>, act: string) {
    const gate = await sql.reserve()
    await gate.unsafe(`begin; select from users where id = ${user.userId} for update`)
    const login = user.logIn()
    for (;;) {
      const [row] = await gate`
        select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`
      if (row) break
    }
    await gate.unsafe(`update users set ${act} where id = ${user.userId}; commit`)
    gate.release()
    return login
  }

  test('opens nothing once it is disabled, also when it is enabled again afterwards', async () => {
    const user = await signedUp(app)
    const login = await loginDuring(user, 'is_active = false')
    expect(login.statusCode).toBe(401)
    await sql`update users set is_active = true where id = ${user.userId}`
    expect(await sql`select 1 from sessions where user_id = ${user.userId}`).toHaveLength(1)
  })

  test('and disabled by an administrator in the same moment, is dead although the account is enabled again', async () => {
    const [admin, user] = [await signedUp(app), await signedUp(app)]
    await sql`update users set roles = '{user,admin}' where id = ${admin.userId}`
    const change = (isActive: boolean) => admin.send('PATCH', `/users/${user.userId}`, { is_active: isActive })
    for (let round = 0; round < 10; round++) {
      const [login] = await Promise.all([user.logIn(), change(false)])
      await change(true)
      if (login.statusCode === 200) expect((await user.me(login.json<TokenReply>().access_token)).statusCode).toBe(401)
    }
  })
})

describe('the first refresh token', () => {
  test('ends no later than its session', async () => {
    const short = await startService({ SESSION_EXPIRE_DAYS: '1', REFRESH_TOKEN_EXPIRE_DAYS: '7' })
    await signedUp(short.app)
    const [row] = await short.sql`
      select t.expires_at = s.expires_at as same from refresh_tokens t join sessions s on s.id = t.session_id`
    expect(row).toEqual({ same: true })
  })
})

describe('the list of sessions', () => {
  test('shows those that stand: none of an older epoch, none that has expired', async () => {
    const { send, logIn: again, userId, email } = await signedUp(app)
    await again()
    await sql`update sessions set expires_at = now() where user_id = ${userId} and id <> ${sidOf(
      (await again()).json<TokenReply>().access_token,
    )} and created_at < now()`
    await sql`update users set session_epoch = session_epoch + 1 where id = ${userId}`
    const { accessToken } = await logIn(app.core, email, password, origin)
    const listed = await app.inject({ url: '/api/v1/me/sessions', headers: { authorization: `Bearer ${accessToken}` } })
    expect(listed.json()).toHaveLength(1)
    expect((await send('GET', '/me/sessions')).statusCode).toBe(401)
  })
})

describe('a change of password', () => {
  test('leaves an event by the user', async () => {
    const { send, userId } = await signedUp(app)
    await send('POST', '/me/password', { current_password: password, new_password: 'another correct horse' })
    const [event] = await sql`
      select actor_id from audit_events where user_id = ${userId} and type = 'password.changed'`
    expect(event).toEqual({ actor_id: userId })
  })
})

describe('an access token', () => {
  test('is refused with the session or the user of somebody else', async () => {
    const [ada, bob] = [await signedUp(app), await signedUp(app)]
    const subject = { userId: ada.userId, roles: ['user'], sessionExpiresAt: new Date(Date.now() + 60_000) }
    const forged = app.core.accessTokens.sign({ ...subject, sessionId: sidOf(bob.tokens.access_token) })
    await expect(authenticate(app.core, forged.accessToken)).rejects.toThrow('session_revoked')
    const own = app.core.accessTokens.sign({ ...subject, sessionId: sidOf(ada.tokens.access_token) })
    expect((await authenticate(app.core, own.accessToken)).account.id).toBe(ada.userId)
  })

  test('is refused when its session has expired', async () => {
    const { tokens } = await signedUp(app)
    await sql`update sessions set expires_at = now() - interval '1 second' where id = ${sidOf(tokens.access_token)}`
    await expect(authenticate(app.core, tokens.access_token)).rejects.toThrow('session_expired')
  })

  test('stands for the user as they are now, not as they were', async () => {
    const { tokens, userId } = await signedUp(app)
    await sql`update users set roles = '{admin}', full_name = 'Renamed' where id = ${userId}`
    const { account } = await authenticate(app.core, tokens.access_token)
    expect([account.roles, account.fullName]).toEqual([['admin'], 'Renamed'])
    expect(account).not.toHaveProperty('passwordHash')
  })
})

describe('a logout', () => {
  test('leaves one event, however many sessions end', async () => {
    const { userId, tokens, logIn: again } = await signedUp(app)
    await again()
    await logOut(app.core, { userId, sessionId: sidOf(tokens.access_token) }, 'global', origin)
    const rows =
      await sql`select detail, request_id from audit_events where user_id = ${userId} and type = 'sessions.ended'`
    expect(rows.map(({ detail, request_id: id }) => [detail as object, id as string])).toEqual([
      [{ reason: 'logout' }, 'request-1'],
    ])
    expect(await listSessions(app.core, userId)).toEqual([])
  })

  test('of the others keeps this session and its refresh token', async () => {
    const { userId, tokens, logIn: again, refresh } = await signedUp(app)
    await again()
    await logOut(app.core, { userId, sessionId: sidOf(tokens.access_token) }, 'others', origin)
    expect((await listSessions(app.core, userId)).map(({ id }) => id)).toEqual([sidOf(tokens.access_token)])
    expect((await refresh()).statusCode).toBe(200)
  })

  test('of one session happens once', async () => {
    const { userId, tokens } = await signedUp(app)
    const session = { userId, sessionId: sidOf(tokens.access_token), reason: 'session_ended' } as const
    const ends = await Promise.all(Array.from({ length: 10 }, () => endOneSession(app.core, session, origin)))
    expect(ends.filter(Boolean)).toHaveLength(1)
    expect((await eventsOf(userId)).filter((type) => type === 'session.ended')).toHaveLength(1)
  })
})

describe('the list of sessions', () => {
  test('has the last used first', async () => {
    const { tokens, logIn: again, refresh, userId } = await signedUp(app)
    const later = (await again()).json<TokenReply>()
    const first = async () => (await listSessions(app.core, userId))[0]?.id
    expect(await first()).toBe(sidOf(later.access_token))
    await refresh()
    expect(await first()).toBe(sidOf(tokens.access_token))
  })

  test('has at most 200', async () => {
    const { userId, send } = await signedUp(app)
    await sql`
      with more as (
        insert into sessions (id, user_id, epoch, expires_at)
        select gen_random_uuid(), ${userId}, 0, now() + interval '1 day' from generate_series(1, 300) returning id
      )
      insert into refresh_tokens (session_id, generation, digest, expires_at)
      select id, 0, '', now() + interval '1 day' from more`
    expect((await send('GET', '/me/sessions')).json<unknown[]>()).toHaveLength(200)
  })
})

describe('a session whose epoch has passed', () => {
  test('is not brought back by a logout of the others that it had asked for before', async () => {
    const { me, userId, tokens } = await signedUp(app)
    await sql`update users set session_epoch = session_epoch + 1 where id = ${userId}`
    await logOut(app.core, { userId, sessionId: sidOf(tokens.access_token) }, 'others', origin)
    expect((await me()).statusCode).toBe(401)
  })

  test('is ended, though no row says so: all sessions can be ended by one number', async () => {
    const { me, refresh, userId, logIn: again } = await signedUp(app)
    await sql`update users set session_epoch = session_epoch + 1 where id = ${userId}`
    expect((await me()).statusCode).toBe(401)
    expect((await refresh()).json()).toMatchObject({ code: 'refresh_token_revoked' })
    expect(await post(app, '/api/v1/logout', {})).toMatchObject({ statusCode: 401 })
    expect((await me((await again()).json<TokenReply>().access_token)).statusCode).toBe(200)
  })
})

function sidOf(accessToken: string): string {
  const claims = JSON.parse(Buffer.from(accessToken.split('.')[1] ?? '', 'base64url').toString()) as { sid: string }
  return claims.sid
}

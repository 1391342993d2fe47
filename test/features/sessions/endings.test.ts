import { describe, expect, test } from 'vitest'
import { sweepDeletedUsers } from '#src/features/accounts/deleted-users.sql.ts'
import { endSessions } from '#src/features/sessions/sessions.sql.ts'
import { sweep } from '#src/features/sessions/sweep.ts'
import { metric, password, post, signedUp, type TokenReply } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const { app, sql } = await startService()
const nobody = { actorId: null, ip: null, userAgent: null, requestId: null }
const retention = { days: 7, auditDays: 365 }

/** Opens so many sessions for a user, all alive, without the service's knowledge. */
const manySessions = (userId: number, count: number) => sql`
  insert into sessions (id, user_id, epoch, created_at, expires_at)
  select gen_random_uuid(), id, session_epoch, now() - interval '1 hour', now() + interval '30 days'
  from users, generate_series(1, ${count}) where id = ${userId}`

const touchedRows = async (userId: number) => {
  const [row] = await sql`
    select count(*) filter (where revoked_at is not null)::integer as marked, count(*)::integer as all from sessions
    where user_id = ${userId}`
  return row
}

async function administrator() {
  const admin = await signedUp(app)
  await sql`update users set roles = '{user,admin}' where id = ${admin.userId}`
  return admin
}

describe('the end of all sessions of a user who has many', () => {
  const endings: Record<string, (user: Awaited<ReturnType<typeof signedUp>>) => Promise<number>> = {
    'a logout': async ({ logOut }) => (await logOut()).statusCode,
    'a logout by an administrator': async ({ userId }) =>
      (await (await administrator()).send('POST', `/users/${userId}/logout`)).statusCode,
    'being disabled': async ({ userId }) =>
      (await (await administrator()).send('PATCH', `/users/${userId}`, { is_active: false })).statusCode,
    'a change of password': async ({ send, logOut }) => {
      const change = { current_password: password, new_password: 'another correct horse' }
      const { statusCode } = await send('POST', '/me/password', change)
      await logOut('local')
      return statusCode
    },
    'a deletion': async ({ send }) => (await send('DELETE', '/me', { password })).statusCode,
  }

  test.each(Object.entries(endings))('by %s counts at once, and touches none of their rows', async (_name, end) => {
    const user = await signedUp(app)
    const other = (await user.logIn()).json<TokenReply>()
    await manySessions(user.userId, 3000)
    expect(await end(user)).toBeOneOf([200, 204])
    expect((await user.me()).statusCode).toBe(401)
    expect((await user.me(other.access_token)).statusCode).toBe(401)
    expect((await user.refresh(other.refresh_token)).statusCode).toBe(401)
    const { marked } = (await touchedRows(user.userId)) ?? {}
    expect(marked).toBeLessThanOrEqual(1)
  })

  test('is marked by the sweep in batches, for the retention to begin', async () => {
    const user = await signedUp(app)
    await manySessions(user.userId, 2500)
    await user.logOut()
    await sweep(app.core, retention)
    expect(await touchedRows(user.userId)).toEqual({ marked: 2501, all: 2501 })
    const [row] = await sql`select sessions_ended_at from users where id = ${user.userId}`
    expect(row).toEqual({ sessions_ended_at: null })
    await sql`update sessions set revoked_at = now() - interval '8 days' where user_id = ${user.userId}`
    await sweep(app.core, retention)
    expect(await touchedRows(user.userId)).toEqual({ marked: 0, all: 0 })
  })

  test('leaves alone what the sweep must not mark: the session that is kept, and those opened since', async () => {
    const user = await signedUp(app)
    await manySessions(user.userId, 3)
    await user.logOut('others')
    const later = (await user.logIn()).json<TokenReply>()
    await sweep(app.core, retention)
    expect(await touchedRows(user.userId)).toEqual({ marked: 3, all: 5 })
    expect((await user.me()).statusCode).toBe(200)
    expect((await user.me(later.access_token)).statusCode).toBe(200)
  })

  test('keeps the session of each of two that end the others at once, until the other ends it', async () => {
    for (let round = 0; round < 20; round++) {
      const user = await signedUp(app)
      await Promise.all([user.logOut('others'), user.logOut('others')])
      expect((await user.me()).statusCode).toBe(200)
    }
  })

  test('makes a session that it ended unknown to who would end it once more', async () => {
    const user = await signedUp(app)
    const other = (await user.logIn()).json<TokenReply>()
    const sessions = (await user.send('GET', '/me/sessions')).json<{ id: string; current: boolean }[]>()
    const ended = sessions.find(({ current }) => !current)?.id
    await user.logOut('others')
    expect((await user.me(other.access_token)).statusCode).toBe(401)
    expect((await user.send('DELETE', `/me/sessions/${ended}`)).statusCode).toBe(404)
  })
})

describe('SESSIONS_PER_USER', () => {
  test('ends the oldest at the login that exceeds it, says so, and keeps the others', async () => {
    const few = await startService({ SESSIONS_PER_USER: '3' })
    const user = await signedUp(few.app)
    const logins: TokenReply[] = []
    for (let i = 0; i < 3; i++) logins.push((await user.logIn()).json<TokenReply>())
    expect((await user.me()).statusCode).toBe(401)
    for (const { access_token: token } of logins) expect((await user.me(token)).statusCode).toBe(200)
    const [event] = await few.sql`
      select detail, actor_id from audit_events where user_id = ${user.userId} and type = 'session.ended'`
    expect(event?.['detail']).toEqual({ reason: 'limit' })
    expect(await metric(few.app, 'auth_sessions_revoked_total{reason="limit"}')).toBe(1)
  })

  test('counts only what lives: sessions that were ended leave their place', async () => {
    const few = await startService({ SESSIONS_PER_USER: '2' })
    const user = await signedUp(few.app)
    for (let i = 0; i < 4; i++) {
      const { access_token: token } = (await user.logIn()).json<TokenReply>()
      await post(few.app, '/api/v1/logout', { scope: 'local' }, { authorization: `Bearer ${token}` })
    }
    expect((await user.me()).statusCode).toBe(200)
  })

  test('brings somebody with far too many back to it, in steps', async () => {
    const user = await signedUp(app)
    await manySessions(user.userId, 1500)
    for (let i = 0; i < 2; i++) await user.logIn()
    const [row] = await sql`
      select count(*)::integer as live from sessions where user_id = ${user.userId} and revoked_at is null`
    expect(row).toEqual({ live: 100 })
  })
})

describe('the session that is kept', () => {
  test('is one of the user, or none', async () => {
    const [user, other] = [await signedUp(app), await signedUp(app)]
    const sessionOf = async (userId: number) => (await sql`select id, epoch from sessions where user_id = ${userId}`)[0]
    // As if the other one had been logged out, too, one epoch ago.
    await sql`update sessions set epoch = -1 where user_id = ${other.userId}`
    await sql`update users set session_epoch = -1 where id = ${user.userId}`
    const keepSessionId = (await sessionOf(other.userId))?.['id'] as string
    const ending = { ...nobody, userId: user.userId, keepSessionId, reason: 'logout' } as const
    await app.db.row(endSessions, ending)
    expect((await sessionOf(other.userId))?.['epoch']).toBe(-1)
  })
})

describe('a deleted user', () => {
  test('is gone for everybody at once, and the names are free', async () => {
    const [admin, user] = [await administrator(), await signedUp(app, { username: 'the.leaver' })]
    await user.send('DELETE', '/me', { password })
    const asked = [
      await admin.send('GET', `/users/${user.userId}`),
      await admin.send('PATCH', `/users/${user.userId}`, { full_name: 'Ghost' }),
      await admin.send('DELETE', `/users/${user.userId}`),
      await admin.send('POST', `/users/${user.userId}/logout`),
    ]
    expect(asked.map(({ statusCode }) => statusCode)).toEqual([404, 404, 404, 404])
    const listed = (await admin.send('GET', '/users?limit=200')).json<{ items: { id: number }[] }>()
    expect(listed.items.map(({ id }) => id)).not.toContain(user.userId)
    const events = (await admin.send('GET', `/users/${user.userId}/events`)).json<{ items: { type: string }[] }>()
    expect(events.items.map(({ type }) => type)).toEqual(['user.deleted'])
    expect((await signedUp(app, { username: 'the.leaver' })).userId).not.toBe(user.userId)
  })

  test('leaves no link and no mail that still waits', async () => {
    const { app, sql } = await startService({ MAIL_WORKER: 'off' })
    const user = await signedUp(app)
    const left = async () => {
      const [row] = await sql`
        select (select count(*)::integer from one_time_tokens where user_id = ${user.userId}) as links,
          (select count(*)::integer from outbox where user_id = ${user.userId} and sent_at is null) as mails`
      return row
    }
    expect(await left()).toEqual({ links: 1, mails: 1 })
    await user.send('DELETE', '/me', { password })
    expect(await left()).toEqual({ links: 0, mails: 0 })
  })

  test('goes last: not while a session of theirs is left', async () => {
    const user = await signedUp(app)
    await user.send('DELETE', '/me', { password })
    await app.db.rows(sweepDeletedUsers, {})
    expect(await sql`select from users where id = ${user.userId}`).toHaveLength(1)
    await sweep(app.core, retention)
    expect(await sql`select from users where id = ${user.userId}`).toHaveLength(0)
  })

  test('is removed by the sweep with everything of theirs in batches, and one event stays', async () => {
    const user = await signedUp(app)
    await manySessions(user.userId, 1200)
    await sql`
      insert into refresh_tokens (session_id, generation, digest, expires_at)
      select id, g, '', now() from sessions, generate_series(1, 3) g where user_id = ${user.userId}`
    await sql`
      insert into audit_events (type, user_id) select 'login.failed', ${user.userId} from generate_series(1, 2500)`
    await user.send('DELETE', '/me', { password })
    await sweep(app.core, retention)
    const [left] = await sql`
      select (select count(*)::integer from users where id = ${user.userId}) as users,
        (select count(*)::integer from sessions where user_id = ${user.userId}) as sessions`
    expect(left).toEqual({ users: 0, sessions: 0 })
    expect(await sql`select type from audit_events where user_id = ${user.userId}`).toEqual([{ type: 'user.deleted' }])
  })
})

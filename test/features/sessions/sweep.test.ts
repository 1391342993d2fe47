import { describe, expect, test } from 'vitest'
import { sweep } from '#src/features/sessions/sweep.ts'
import { metric, password, signedUp, type TokenReply } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const retention = { days: 7, auditDays: 365 }

describe('the sweep', () => {
  test('deletes spent tokens and ended sessions past their retention, in batches, and nothing else', async () => {
    const { app, sql } = await startService()
    const { userId, tokens, refresh } = await signedUp(app)
    let token = tokens.refresh_token
    for (let i = 0; i < 3; i++) token = (await refresh(token)).json<TokenReply>().refresh_token
    await sql`
      insert into sessions (id, user_id, epoch, expires_at, revoked_at)
      select gen_random_uuid(), ${userId}, 0, now() + interval '1 day', case when i <= 2500 then now() - interval '8 days' end
      from generate_series(1, 2600) i`
    await sql`
      insert into refresh_tokens (session_id, generation, digest, issued_at, expires_at)
      select id, 0, '', now(), now() from sessions where revoked_at is not null`
    await sql`update refresh_tokens set issued_at = issued_at - interval '8 days' where generation in (0, 1)`

    await sweep(app.core, retention)

    const [left] = await sql`
      select (select count(*)::integer from sessions) as sessions, (select count(*)::integer from refresh_tokens) as tokens`
    expect(left).toEqual({ sessions: 101, tokens: 2 })
    expect((await refresh(token)).statusCode).toBe(200)
    expect(await metric(app, 'auth_sweep_deleted_total{table="sessions"}')).toBe(2500)
    expect(await metric(app, 'auth_sweep_deleted_total{table="refresh_tokens"}')).toBe(2)
  })

  test('takes the parent of a head when it has expired, and not before', async () => {
    const { app, sql } = await startService({ REFRESH_TOKEN_EXPIRE_DAYS: '30' })
    const [expired, valid] = [await signedUp(app), await signedUp(app)]
    await Promise.all([expired.refresh(), valid.refresh()])
    await sql`update refresh_tokens set issued_at = now() - interval '20 days'`
    await sql`
      update refresh_tokens t set expires_at = now() - interval '1 day' from sessions s
      where s.id = t.session_id and s.user_id = ${expired.userId} and t.generation = 0`
    await sweep(app.core, retention)
    const left = await sql`
      select s.user_id, t.generation from refresh_tokens t join sessions s on s.id = t.session_id order by 1, 2`
    expect(left.map((row) => [row['user_id'], row['generation']])).toEqual([
      [expired.userId, 1],
      [valid.userId, 0],
      [valid.userId, 1],
    ])
  })

  test('passes over a session that somebody holds, and waits for nobody', async () => {
    const { app, sql } = await startService()
    const [held, free] = [await signedUp(app), await signedUp(app)]
    await sql`update sessions set revoked_at = now() - interval '8 days'`
    const left = await sql.begin(async (transaction) => {
      await transaction`select from sessions where user_id = ${held.userId} for update`
      await sweep(app.core, retention)
      return transaction`select user_id from sessions`
    })
    expect(left).toEqual([{ user_id: held.userId }])
    expect(free.userId).not.toBe(held.userId)
  })

  test('keeps an unspent token however old', async () => {
    const { app, sql } = await startService({ REFRESH_TOKEN_EXPIRE_DAYS: '30' })
    const { refresh } = await signedUp(app)
    await sql`update refresh_tokens set issued_at = now() - interval '20 days'`
    await sweep(app.core, retention)
    expect((await refresh()).statusCode).toBe(200)
  })

  test('locks nothing that stays: a refresh of an old idle session does not wait for it', async () => {
    const { app, sql } = await startService({ REFRESH_TOKEN_EXPIRE_DAYS: '30' })
    const { userId } = await signedUp(app)
    await sql`update refresh_tokens set issued_at = now() - interval '20 days'`
    const before = await sql`select xmax::text from refresh_tokens`
    await sweep(app.core, retention)
    expect(await sql`select xmax::text from refresh_tokens`).toEqual(before)
    expect(await sql`select 1 from sessions where user_id = ${userId}`).toHaveLength(1)
  })

  test('takes an idle session whose last token expired longer ago than the retention', async () => {
    const { app, sql } = await startService()
    const [idle, recent] = [await signedUp(app), await signedUp(app)]
    const expire = (userId: number, days: number) => sql`
      update refresh_tokens t set issued_at = now() - interval '30 days', expires_at = now() - make_interval(days => ${days})
      from sessions s where s.id = t.session_id and s.user_id = ${userId}`
    await expire(idle.userId, 8)
    await expire(recent.userId, 6)
    await sweep(app.core, retention)
    expect(await sql`select user_id from sessions`).toEqual([{ user_id: recent.userId }])
    expect(await metric(app, 'auth_sweep_deleted_total{table="sessions"}')).toBe(1)
  })

  test('goes on with the other tables when one fails, and tells which fault it was', async () => {
    const { app, sql } = await startService({ SWEEP: 'on' })
    await sql`insert into audit_events (type, created_at) values ('x', now() - interval '2 years')`
    await sql`alter table outbox rename to elsewhere`
    const faults: unknown[] = []
    await sweep(app.core, { ...retention, onFault: (error) => faults.push(error) })
    expect(faults).toHaveLength(3)
    expect(await app.metricsRegistry.metrics()).toContain('\nauth_last_sweep_timestamp_seconds 0\n')
    expect(await sql`select 1 from audit_events where type = 'x'`).toHaveLength(0)
  })

  test('has no time of its last end where it is off', async () => {
    const { app } = await startService()
    expect(await app.metricsRegistry.metrics()).not.toContain('auth_last_sweep')
  })

  test('counts users and live sessions for the gauges, so that no scrape has to', async () => {
    const { app, sql } = await startService({ SWEEP: 'on' })
    const [stays, leaves] = [await signedUp(app), await signedUp(app)]
    await stays.logIn()
    await leaves.send('DELETE', '/me', { password })
    await sweep(app.core, retention)
    expect(await metric(app, 'auth_users')).toBe(1)
    expect(await metric(app, 'auth_sessions_live')).toBe(2)
    expect(await metric(app, 'auth_last_sweep_timestamp_seconds')).toBeGreaterThan(Date.now() / 1000 - 60)
    expect(await sql`select 1 from users`).toHaveLength(1)
  })

  test('counts more users and sessions than it looks at in one statement', async () => {
    const { app, sql } = await startService()
    await sql`insert into users (email) select n || '@example.com' from generate_series(1, 20000) n`
    await sql`
      insert into sessions (id, user_id, epoch, expires_at, revoked_at)
      select gen_random_uuid(), id, 0, now() + interval '1 day' * (case when id % 10 = 1 then -1 else 1 end),
        case when id % 10 = 0 then now() end
      from users`
    await sweep(app.core, retention)
    expect(await metric(app, 'auth_users')).toBe(20_000)
    expect(await metric(app, 'auth_sessions_live')).toBe(16_000)
  })

  test('stops between two batches when the service closes', async () => {
    const { app, sql } = await startService()
    await sql`insert into audit_events (type, created_at) select 'x', now() - interval '2 years' from generate_series(1, 3000)`
    await sweep(app.core, { ...retention, signal: AbortSignal.abort() })
    expect((await sql`select count(*)::integer as count from audit_events where type = 'x'`)[0]).toEqual({
      count: 3000,
    })
  })

  test('may run on several instances at once', async () => {
    const { app, sql } = await startService()
    await sql`insert into audit_events (type, created_at) select 'x', now() - interval '2 years' from generate_series(1, 3000)`
    await Promise.all([1, 2, 3].map(() => sweep(app.core, retention)))
    expect((await sql`select count(*)::integer as count from audit_events where type = 'x'`)[0]).toEqual({ count: 0 })
    expect(await metric(app, 'auth_sweep_deleted_total{table="audit_events"}')).toBe(3000)
  })

  test('keeps what is younger than the retention, and what is live, however much it sweeps', async () => {
    const { app, sql } = await startService()
    const { userId, refresh, me } = await signedUp(app)
    const leaver = await signedUp(app)
    await refresh()
    await leaver.logOut()
    await sql`update sessions set revoked_at = now() - interval '6 days' where user_id = ${leaver.userId}`
    await sql`update refresh_tokens set issued_at = now() - interval '6 days' where generation = 0`
    const count = async () => {
      const [row] = await sql`
        select (select count(*)::integer from sessions) as sessions, (select count(*)::integer from refresh_tokens) as tokens,
          (select count(*)::integer from audit_events) as events`
      return row
    }
    const before = await count()
    await sweep(app.core, retention)
    expect(await count()).toEqual(before)
    await sql`update sessions set expires_at = now() - interval '8 days' where user_id = ${userId}`
    await sweep(app.core, retention)
    expect(await count()).toEqual({ ...before, sessions: 1, tokens: 1 })
    expect((await me()).statusCode).toBe(401)
  })

  test('passes over rows that a request holds, and takes them next time', async () => {
    const { app, sql } = await startService()
    const { userId } = await signedUp(app)
    await sql`update sessions set expires_at = now() - interval '8 days' where user_id = ${userId}`
    await sql.begin(async (tx) => {
      await tx`select from sessions where user_id = ${userId} for update`
      await sweep(app.core, retention)
    })
    expect(await sql`select id from sessions`).toHaveLength(1)
    await sweep(app.core, retention)
    expect(await sql`select id from sessions`).toHaveLength(0)
  })

  test('waits for nobody who holds a spent token, and takes more than a batch of them in one go', async () => {
    const { app, sql } = await startService()
    const { userId } = await signedUp(app)
    await sql`
      insert into refresh_tokens (session_id, generation, digest, issued_at, expires_at)
      select id, g, '', now() - interval '9 days', now() from sessions, generate_series(1, 2500) g where user_id = ${userId}`
    await sql`update sessions set generation = 3000`
    const faults: unknown[] = []
    await sql.begin(async (tx) => {
      await tx`select from refresh_tokens where generation = 7 for update`
      await sweep(app.core, { ...retention, onFault: (error) => faults.push(error) })
    })
    expect(faults).toEqual([])
    // The first is younger than the retention.
    expect(await sql`select generation from refresh_tokens order by 1`).toEqual([{ generation: 0 }, { generation: 7 }])
  })

  test('keeps a session that expired less than the retention ago', async () => {
    const { app, sql } = await startService()
    await signedUp(app)
    await sql`update sessions set expires_at = now() - interval '6 days'`
    await sweep(app.core, retention)
    expect(await sql`select 1 from sessions`).toHaveLength(1)
  })

  test('leaves the audit trail to a retention of its own', async () => {
    const { app, sql } = await startService()
    await sql`
      insert into audit_events (type, created_at) select 'x', now() - make_interval(days => days)
      from unnest(array[8, 364, 366, 1000]) days`
    await sweep(app.core, retention)
    expect(await sql`select id from audit_events where type = 'x'`).toHaveLength(2)
  })
})

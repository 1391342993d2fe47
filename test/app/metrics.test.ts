import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import { describe, expect, test } from 'vitest'
import { get, metric, password, post, signedUp, type TokenReply } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const series = async (app: FastifyInstance) => (await app.metricsRegistry.metrics()).split('\n')

describe('the metrics of the use cases', () => {
  test('have these names and labels, each from the start', async () => {
    const { app } = await startService({ SWEEP: 'on' })
    const names = (await series(app)).filter((line) => /^auth_(?!.*_bucket)/.test(line))
    expect(names.map((line) => line.split(' ')[0])).toMatchInlineSnapshot(`
      [
        "auth_logins_total{outcome="succeeded"}",
        "auth_logins_total{outcome="failed"}",
        "auth_logins_total{outcome="disabled"}",
        "auth_logins_total{outcome="unverified"}",
        "auth_logins_total{outcome="unavailable"}",
        "auth_refresh_total{outcome="rotated"}",
        "auth_refresh_total{outcome="replayed"}",
        "auth_refresh_total{outcome="late"}",
        "auth_refresh_total{outcome="superseded"}",
        "auth_refresh_total{outcome="reused"}",
        "auth_refresh_total{outcome="invalid"}",
        "auth_refresh_total{outcome="expired"}",
        "auth_refresh_total{outcome="revoked"}",
        "auth_refresh_total{outcome="unavailable"}",
        "auth_sessions_revoked_total{reason="logout"}",
        "auth_sessions_revoked_total{reason="reuse"}",
        "auth_sessions_revoked_total{reason="password_change"}",
        "auth_sessions_revoked_total{reason="password_reset"}",
        "auth_sessions_revoked_total{reason="session_ended"}",
        "auth_sessions_revoked_total{reason="limit"}",
        "auth_sessions_revoked_total{reason="disabled"}",
        "auth_sessions_revoked_total{reason="admin"}",
        "auth_mail_total{outcome="sent"}",
        "auth_mail_total{outcome="retried"}",
        "auth_mail_total{outcome="abandoned"}",
        "auth_sweep_deleted_total{table="mail_quotas"}",
        "auth_sweep_deleted_total{table="refresh_tokens"}",
        "auth_sweep_deleted_total{table="sessions"}",
        "auth_sweep_deleted_total{table="users"}",
        "auth_sweep_deleted_total{table="audit_events"}",
        "auth_sweep_deleted_total{table="outbox"}",
        "auth_sweep_deleted_total{table="one_time_tokens"}",
        "auth_sweep_deleted_total{table="auth_sessions"}",
        "auth_users",
        "auth_sessions_live",
        "auth_last_sweep_timestamp_seconds",
        "auth_password_gate_refused_total",
        "auth_password_hash_seconds_sum",
        "auth_password_hash_seconds_count",
        "auth_password_gate_wait_seconds_sum",
        "auth_password_gate_wait_seconds_count",
        "auth_ready",
        "auth_mail_queued",
        "auth_mail_oldest_seconds",
        "auth_password_gate_running",
        "auth_password_gate_waiting",
        "auth_database_connections_in_use",
        "auth_database_connections_max",
        "auth_database_statements_waiting",
      ]
    `)
  })

  test('count every outcome of a login', async () => {
    const { app, sql } = await startService()
    const { email, userId, logIn } = await signedUp(app)
    await post(app, '/api/v1/token', { username: email, password: 'wrong password' })
    await post(app, '/api/v1/token', { username: 'nobody', password })
    await sql`update users set is_active = false where id = ${userId}`
    await logIn()
    const count = (outcome: string) => metric(app, `auth_logins_total{outcome="${outcome}"}`)
    expect([await count('succeeded'), await count('failed'), await count('disabled')]).toEqual([1, 2, 1])
  })

  test('count every outcome of a refresh', async () => {
    const { app, sql } = await startService()
    const { refresh, logOut, userId } = await signedUp(app)
    const second = (await refresh()).json<TokenReply>().refresh_token
    await refresh()
    await refresh(second)
    await refresh()
    await refresh('unknown')
    await sql`update sessions set expires_at = now() where user_id = ${userId}`
    await refresh()
    await sql`update sessions set expires_at = now() + interval '1 day' where user_id = ${userId}`
    await sql`update refresh_tokens set issued_at = now() - interval '1 hour'`
    await refresh(second)
    await refresh()
    await logOut()
    await refresh(second)
    const counted = (await series(app)).filter((line) => line.startsWith('auth_refresh_total'))
    expect(counted.map((line) => /"(\w+)"\} (\d+)/.exec(line)?.slice(1).join(' '))).toEqual([
      'rotated 2',
      'replayed 1',
      'late 1',
      'superseded 1',
      'reused 1',
      'invalid 1',
      'expired 1',
      'revoked 1',
      'unavailable 0',
    ])
  })

  test('count the sessions that end, by reason', async () => {
    const { app } = await startService()
    const { send, logIn, logOut } = await signedUp(app)
    await logIn()
    const listed = (await send('GET', '/me/sessions')).json<{ id: string; current: boolean }[]>()
    await send('DELETE', `/me/sessions/${listed.find(({ current }) => !current)?.id}`)
    await logIn()
    await logIn()
    await send('POST', '/me/password', { current_password: password, new_password: 'another battery' })
    await logOut()
    const count = (reason: string) => metric(app, `auth_sessions_revoked_total{reason="${reason}"}`)
    expect([await count('session_ended'), await count('password_change'), await count('logout')]).toEqual([1, 2, 1])
  })

  test('tell how many connections and hashes are at work', async () => {
    const { app } = await startService({ DATABASE_POOL_SIZE: '7' })
    expect(await metric(app, 'auth_database_connections_max')).toBe(7)
    // The worker may look for mail at that moment, and count it.
    expect(await metric(app, 'auth_database_connections_in_use')).toBeLessThanOrEqual(2)
    const logins = Array.from({ length: 20 }, () => post(app, '/api/v1/token', { username: 'nobody', password }))
    await Promise.race(logins)
    expect(await metric(app, 'auth_password_gate_running')).toBeGreaterThan(0)
    await Promise.all(logins)
    expect(await metric(app, 'auth_password_gate_running')).toBe(0)
  })

  test('count the passwords that found the queue full', async () => {
    const { app } = await startService()
    const { gate } = app.core.passwords
    const refused = () => metric(app, 'auth_password_gate_refused_total')
    const done = Promise.withResolvers<void>()
    const others = Array.from({ length: gate.width + gate.length }, () => gate.run(() => done.promise))
    expect(await refused()).toBe(0)
    const { statusCode } = await post(app, '/api/v1/token', { username: 'nobody', password })
    expect([statusCode, await refused()]).toEqual([503, 1])
    done.resolve()
    await Promise.all(others)
  })
})

describe('the metrics of the process', () => {
  test('name the version that runs, and the Node that it runs on', async () => {
    const { app } = await startService()
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
    expect(await metric(app, `latchkey_build_info{version="${version}",node="${process.versions.node}"}`)).toBe(1)
  })

  test('tell how late the event loop is', async () => {
    const { app } = await startService()
    const names = (await series(app)).filter((line) => line.startsWith('nodejs_eventloop_lag_'))
    expect(names.map((line) => line.split(' ')[0])).toEqual(
      expect.arrayContaining(['nodejs_eventloop_lag_seconds', 'nodejs_eventloop_lag_p99_seconds']),
    )
  })
})

describe('a label', () => {
  test('holds the pattern of a route, never what a client sent: their number is bounded', async () => {
    const { app } = await startService()
    const { send, email } = await signedUp(app)
    const visit = async () => {
      await send('DELETE', `/me/sessions/${randomUUID()}`)
      await get(app, `/${randomUUID()}?a=${randomUUID()}`)
      await send('GET', `/me?x=${email}`)
      return (await series(app)).filter((line) => line.startsWith('http_')).length
    }
    await visit()
    const before = await visit()
    for (let i = 0; i < 20; i++) await visit()
    expect(await visit()).toBe(before)
    const text = (await series(app)).join('\n')
    expect(text).toContain('route="/api/v1/me/sessions/:id",status_code="404"} 23')
    expect(text).not.toContain(email)
  })
})

describe('two services in one process', () => {
  test('count apart', async () => {
    const [one, two] = [await startService(), await startService()]
    await signedUp(one.app)
    expect(await metric(one.app, 'auth_logins_total{outcome="succeeded"}')).toBe(1)
    expect(await metric(two.app, 'auth_logins_total{outcome="succeeded"}')).toBe(0)
  })
})

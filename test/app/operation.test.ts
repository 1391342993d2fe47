import { describe, expect, test } from 'vitest'
import { get, password, post, signedUp } from '#test/support/actors.ts'
import { onDatabase, send, startServer } from '#test/support/process.ts'
import { cloneDatabase, startService } from '#test/support/service.ts'

describe('/metrics', () => {
  test('count the use cases under names and labels that hold no user', async () => {
    const { app } = await startService()
    const { email, refresh } = await signedUp(app)
    await refresh()
    await post(app, '/api/v1/token', { username: email, password: 'wrong password' })
    await get(app, '/no/such/path')
    const { body } = await get(app, '/metrics')
    for (const line of [
      'auth_logins_total{outcome="succeeded"} 1',
      'auth_logins_total{outcome="failed"} 1',
      'auth_refresh_total{outcome="rotated"} 1',
      'auth_refresh_total{outcome="reused"} 0',
      'auth_sessions_revoked_total{reason="reuse"} 0',
    ])
      expect(body).toContain(line)
    expect(body).toMatch(/http_request_duration_seconds_count\{method="GET",route="unknown",status_code="404"\} 1/)
    expect(body).toMatch(/auth_password_hash_seconds_count \d/)
    expect(body).not.toContain('@')
    expect(body).not.toContain('/no/such/path')
  })

  test('keep to Prometheus’ conventions: a help and a type for each, counters end in _total, times in _seconds', async () => {
    const { app } = await startService()
    const { body } = await get(app, '/metrics')
    const types = [...body.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type = '']) => ({ name, type }))
    expect(types.length).toBeGreaterThan(20)
    for (const { name, type } of types) {
      expect(body).toContain(`# HELP ${name} `)
      expect([name, name.endsWith('_total')]).toEqual([name, type === 'counter'])
    }
  })

  test('can be put behind a token: without it, or with another one, it is a 401', async () => {
    const { app } = await startService({ METRICS_TOKEN: 'a-token-for-prometheus' })
    const scrape = (authorization?: string) =>
      get(app, '/metrics', authorization === undefined ? {} : { authorization })
    expect((await scrape('Bearer a-token-for-prometheus')).statusCode).toBe(200)
    expect((await scrape()).json()).toMatchObject({ status: 401, code: 'token_missing' })
    for (const wrong of ['Bearer another-token-altogether', 'Bearer a-token-for-prometheu', 'Basic YTpi', 'Bearer '])
      expect((await scrape(wrong)).json()).toMatchObject({ status: 401, code: 'token_invalid' })
  })

  test('ask for a token in production, are open there only when told so, and can be switched off', async () => {
    const production = { ENVIRONMENT: 'production', PUBLIC_URL: 'https://auth.example.com' }
    const { app } = await startService(production)
    for (const headers of [{}, { authorization: 'Bearer undefined' }])
      expect((await get(app, '/metrics', headers)).statusCode).toBe(401)
    const open = await startService({ ...production, METRICS: 'open' })
    expect((await get(open.app, '/metrics')).statusCode).toBe(200)
    const off = await startService({ METRICS: 'off', DOCS: 'off' })
    for (const path of ['/metrics', '/docs', '/openapi.json']) expect((await get(off.app, path)).statusCode).toBe(404)
  })

  test('are put together once for all who ask within a second', async () => {
    const { app } = await startService()
    const before = get(app, '/metrics')
    await get(app, '/no/such/path')
    expect((await before).body).toBe((await get(app, '/metrics')).body)
  })
})

describe('every reply', () => {
  test('tells browsers not to sniff, frame or keep it, and names neither program nor version', async () => {
    const { app } = await startService({ HSTS: 'on' })
    const { headers } = await get(app, '/health')
    expect(headers).toMatchObject({
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'referrer-policy': 'no-referrer',
      'content-security-policy': "default-src 'none';frame-ancestors 'none'",
      'strict-transport-security': expect.stringContaining('max-age=31536000') as string,
      'x-request-id': expect.any(String) as string,
    })
    expect(headers).not.toHaveProperty('server')
    expect(headers).not.toHaveProperty('x-powered-by')
  })

  test('allows other origins only when they are listed', async () => {
    const closed = await startService()
    const origin = { origin: 'https://app.example.com' }
    expect((await get(closed.app, '/health', origin)).headers).not.toHaveProperty('access-control-allow-origin')
    const open = await startService({ CORS_ORIGINS: origin.origin })
    expect((await get(open.app, '/health', origin)).headers['access-control-allow-origin']).toBe(origin.origin)
    const other = await get(open.app, '/health', { origin: 'https://evil.example.com' })
    expect(other.headers).not.toHaveProperty('access-control-allow-origin')
  })
})

describe('while the database is away', () => {
  test('every request is a 503 with Retry-After, never a 401; /health stays, /ready fails; and it recovers by itself', async () => {
    const { app, url } = await startService()
    const { tokens, email, me, refresh } = await signedUp(app)
    const name = new URL(url).pathname.slice(1)
    const outside = await cloneDatabase()
    await outside.sql.unsafe(`alter database ${name} allow_connections false`)
    await outside.sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${name}`

    const login = post(app, '/api/v1/token', { username: email, password })
    const logout = post(app, '/api/v1/logout', { refresh_token: tokens.refresh_token })
    const replies = await Promise.all([me(), refresh(), login, logout, get(app, '/ready')])
    expect(replies.map(({ statusCode }) => statusCode)).toEqual(Array(5).fill(503))
    expect(replies.every(({ headers }) => Number(headers['retry-after']) > 0)).toBe(true)
    expect(replies.map(({ body }) => body).join()).not.toMatch(/postgres|select|ECONN|SQL/i)
    expect((await get(app, '/health')).statusCode).toBe(200)

    await outside.sql.unsafe(`alter database ${name} allow_connections true`)
    // An attempt to connect that began before may still fail.
    await expect.poll(async () => (await me()).statusCode).toBe(200)
    expect((await refresh()).statusCode).toBe(200)
  })
})

describe('a row that somebody else has locked', () => {
  test('is a 503 for who needs it, and nobody else feels it', async () => {
    const { app, sql } = await startService()
    const [held, free] = [await signedUp(app), await signedUp(app)]
    const lock = Promise.withResolvers<void>()
    const locked = sql.begin(async (tx) => {
      await tx`select from sessions where user_id = ${held.userId} for update`
      lock.resolve()
      const blocked = await held.refresh()
      expect([blocked.statusCode, Number(blocked.headers['retry-after']) > 0]).toEqual([503, true])
      expect((await free.refresh()).statusCode).toBe(200)
    })
    await lock.promise
    await locked
    expect((await held.refresh()).statusCode).toBe(200)
  })
})

describe('a pool of two connections', () => {
  test('serves 100 refreshes at once', async () => {
    const { app } = await startService({ DATABASE_POOL_SIZE: '2' })
    const actors = await Promise.all(Array.from({ length: 100 }, () => signedUp(app)))
    const statuses = (await Promise.all(actors.map(({ refresh }) => refresh()))).map(({ statusCode }) => statusCode)
    expect(new Set(statuses)).toEqual(new Set([200]))
  })
})

describe('the log', () => {
  test('is JSON lines without a password, token or address, also when things go wrong', async () => {
    const { url, sql } = await cloneDatabase()
    const server = startServer({ ...onDatabase(url), SMTP_URL: 'smtp://127.0.0.1:1', MAIL_FROM: 'auth@example.com' })
    const api = `${await server.listening}/api/v1`
    const email = 'log.secret@example.com'
    await send(`${api}/users/`, { email, password, full_name: 'Log Secret' })
    const { body } = await send(`${api}/token`, { username: email, password })
    const [access, refresh] = [String(body['access_token']), String(body['refresh_token'])]
    await send(`${api}/me`, undefined, { authorization: `Bearer ${access}` })
    await send(`${api}/users/`, { email, password })
    await sql.unsafe('alter table users rename to away')
    expect((await send(`${api}/me`, undefined, { authorization: `Bearer ${access}` })).status).toBe(500)
    expect((await send(`${api}/refresh`, { refresh_token: refresh })).status).toBe(500)
    server.child.kill('SIGTERM')
    const { output } = await server.exited

    const lines = output.trim().split('\n')
    expect(lines.length).toBeGreaterThan(6)
    for (const line of lines) expect(() => JSON.parse(line) as unknown).not.toThrow()
    expect(output).toContain('"code":"42P01"')
    for (const secret of [password, access, refresh, email, 'Log Secret', '$argon2'])
      expect(output).not.toContain(secret)
  })
})

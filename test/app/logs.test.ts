import { describe, expect, test } from 'vitest'
import { password } from '#test/support/actors.ts'
import { onDatabase, send, startServer } from '#test/support/process.ts'
import { cloneDatabase } from '#test/support/service.ts'

interface Line {
  readonly level: number
  readonly msg: string
  readonly reqId?: string
  readonly route?: string
  readonly path?: string
  readonly status?: number
}

const { url } = await cloneDatabase()
const outside = await cloneDatabase()
const database = new URL(url).pathname.slice(1)

describe('the log', () => {
  test('holds no password, token, cookie, name or address, while the database is there and while it is away', async () => {
    const server = startServer({ ...onDatabase(url), MAIL_WORKER: 'off' })
    const base = await server.listening
    const api = `${base}/api/v1`
    const email = 'log.secret@example.com'
    const account = { email, password, username: 'log.username', full_name: 'Log\r\n{"level":60}' }
    await send(`${api}/users/`, account)
    await send(`${api}/users/`, { ...account, full_name: 'Log Fullname' })
    const login = await send(`${api}/token`, { username: email, password })
    const [access, refresh] = [String(login.body['access_token']), String(login.body['refresh_token'])]
    const everything = async () => {
      const authorization = `Bearer ${access}`
      await send(`${api}/users/`, { ...account, email: 'other.secret@example.com' })
      await send(`${api}/token`, { username: email, password })
      await send(`${api}/token`, { username: email, password: 'wrong.secret' })
      await send(`${api}/refresh`, { refresh_token: refresh })
      await send(`${api}/refresh`, {}, { cookie: `latchkey_refresh=${refresh}`, 'x-token-transport': 'cookie' })
      await send(`${api}/me?token=${access}&email=${email}`, undefined, { authorization })
      await send(`${base}/${refresh}/${encodeURIComponent(email)}`)
      await send(`${api}/me`, undefined, { authorization: 'Bearer forged.secret.token' })
      await send(`${api}/me/password`, { current_password: password, new_password: 'next.secret' }, { authorization })
    }
    await everything()
    await outside.sql.unsafe(`alter database ${database} allow_connections false`)
    await outside.sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${database}`
    await everything()
    expect((await send(`${base}/ready`)).status).toBe(503)
    await outside.sql.unsafe(`alter database ${database} allow_connections true`)
    server.child.kill('SIGTERM')
    const { output } = await server.exited

    const written = output.trim().split('\n')
    for (const line of written) expect(() => JSON.parse(line) as unknown, line).not.toThrow()
    const lines = written.map((line) => JSON.parse(line) as Line)
    expect(lines.filter(({ msg }) => msg === 'request').length).toBeGreaterThan(15)
    expect(lines.filter(({ status }) => status === 503).length).toBeGreaterThan(5)
    for (const secret of [password, access, refresh, email, 'secret', 'log.username', 'Fullname', '$argon2', 'lkr_'])
      expect(output).not.toContain(secret)
  })

  test('ties the lines of a request to its reply by reqId, and names the route instead of the path', async () => {
    const server = startServer(onDatabase(url))
    const base = await server.listening
    const reply = await fetch(`${base}/api/v1/me/sessions/019a3b92-ad1f-751a-89a7-4998737bc2e6`, { method: 'DELETE' })
    server.child.kill('SIGTERM')
    const { output } = await server.exited
    const line = output.split('\n').find((text) => text.includes(reply.headers.get('x-request-id') ?? '?'))
    expect(JSON.parse(line ?? '{}')).toMatchObject({
      method: 'DELETE',
      route: '/api/v1/me/sessions/:id',
      status: 401,
      ip: '127.0.0.1',
      msg: 'request',
    })
  })

  test('names the path of a 404 without its query, bounded and on one line; no other line names a path', async () => {
    const server = startServer(onDatabase(url))
    const base = await server.listening
    const paths = [
      '/favicon.ico?token=query',
      `/${'long/'.repeat(100)}`,
      '/a%0d%0ab/c%1b%5B31m',
      '/lkr_01hzy.3.abc/lko_abc/eyJhbGciOiJub25lIn0.e30.x',
      '/ada@example.com/ada%40example.com/%E2%82%AC',
      `/${'a'.repeat(33)}/end`,
      '/health/?query',
    ]
    for (const path of paths) await send(`${base}${path}`)
    await send(`${base}/api/v1/token`, undefined)
    await send(`${base}/api/v1/users/1`, undefined)
    server.child.kill('SIGTERM')
    const { output } = await server.exited
    const lines = output.split('\n').flatMap((line) => (line.includes('"route"') ? [JSON.parse(line) as Line] : []))
    expect(lines.map(({ route, path, status }) => [status, route, path])).toEqual([
      [404, 'unknown', '/favicon.ico'],
      [404, 'unknown', `/${'long/'.repeat(100)}`.slice(0, 200)],
      [404, 'unknown', '/*/*'],
      [404, 'unknown', '/*/*/*'],
      [404, 'unknown', '/*/*/*'],
      [404, 'unknown', '/*/end'],
      [405, 'unknown', '/api/v1/token'],
      [401, '/api/v1/users/:id', undefined],
    ])
    expect(output).not.toContain('query')
  })
})

import { describe, expect, test } from 'vitest'
import { form, formOf, password, post, type Reply, signedUp } from '#test/support/actors.ts'
import { onDatabase, send, startServer } from '#test/support/process.ts'
import { startService } from '#test/support/service.ts'

const secret = 'a-secret-of-the-frontend'
const settings = {
  RATE_LIMITS: 'on',
  LIMIT_LOGINS_PER_MINUTE: '2',
  TRUSTED_PROXIES: '127.0.0.0/8,10.0.0.0/8',
  OAUTH_CLIENTS: `bff:${secret}`,
}
const { app, sql, url } = await startService(settings)

const logIn = (headers: Record<string, string>, fields: Record<string, string> = {}, on = app) =>
  post(on, '/api/v1/token', formOf({ username: 'nobody', password: 'wrong password', ...fields }), {
    ...form,
    ...headers,
  })
/** The address of the newest event of the audit trail. */
const recorded = async () => (await sql<{ ip: string }[]>`select ip from audit_events order by id desc limit 1`)[0]?.ip
const statusOf = async (reply: Promise<Reply>) => (await reply).statusCode
const asClient = (password = secret) => ({
  authorization: `Basic ${Buffer.from(`bff:${password}`).toString('base64')}`,
})

describe('a forwarded address', () => {
  test.each([
    ['198.51.100.1:5678', '198.51.100.1'],
    ['[2001:db8:1::1]:443', '2001:db8:1::1'],
    ['2001:DB8:2:0::1', '2001:db8:2::1'],
    ['::ffff:198.51.100.2', '198.51.100.2'],
    ['198.51.100.3:1111, 10.0.0.1:2222', '198.51.100.3'],
    ['unknown', '127.0.0.1'],
    ['198.51.100.300', '127.0.0.1'],
  ])('%s is recorded as %s', async (forwarded, address) => {
    await logIn({ 'x-forwarded-for': forwarded })
    expect(await recorded()).toBe(address)
  })

  test('is one address on every port', async () => {
    const from = (port: number) => statusOf(logIn({ 'x-forwarded-for': `198.51.100.9:${port}` }))
    expect([await from(1001), await from(1002), await from(1003)]).toEqual([401, 401, 429])
  })
})

describe('a backend for a frontend', () => {
  test('says the address of its user, with its credentials in the header or in fields', async () => {
    const fields = { client_id: 'bff', client_secret: secret }
    const asked = [
      () => logIn({ ...asClient(), 'x-user-address': '192.0.2.1' }),
      () => logIn({ 'x-user-address': '192.0.2.1' }, fields),
      () => logIn({ ...asClient(), 'x-user-address': '192.0.2.1' }),
      () => logIn({ 'x-user-address': '[192.0.2.2]:443' }, fields),
    ]
    const statuses: number[] = []
    for (const ask of asked) statuses.push(await statusOf(ask()))
    expect(statuses).toEqual([401, 401, 429, 401])
    expect(await recorded()).toBe('192.0.2.2')
  })

  test('is not believed without the right credentials, nor what is no address', async () => {
    const proxy = { 'x-forwarded-for': '198.51.100.20' }
    await logIn({ ...proxy, 'x-user-address': '192.0.2.10' })
    expect(await recorded()).toBe('198.51.100.20')
    await logIn({ ...proxy, ...asClient('wrong'), 'x-user-address': '192.0.2.10' })
    expect(await recorded()).toBe('198.51.100.20')
    await logIn({ 'x-forwarded-for': '198.51.100.21', ...asClient(), 'x-user-address': 'unknown' })
    expect(await recorded()).toBe('198.51.100.21')
  })

  test('refreshes for each of its users apart', async () => {
    const { app } = await startService({ ...settings, LIMIT_REFRESHES_PER_MINUTE: '2' })
    const body = { refresh_token: 'none' }
    const credentials = { client_id: 'bff', client_secret: secret }
    for (const address of ['192.0.2.1', '192.0.2.2']) {
      const headers = { 'x-user-address': address }
      expect(await statusOf(post(app, '/api/v1/refresh', body, { ...headers, ...asClient() }))).toBe(401)
      expect(await statusOf(post(app, '/api/v1/refresh', { ...body, ...credentials }, headers))).toBe(401)
      expect(await statusOf(post(app, '/api/v1/refresh', { ...body, ...credentials }, headers))).toBe(429)
    }
  })

  test('does not spend the requests of its own address on its users', async () => {
    const { app: busy } = await startService({ ...settings, LIMIT_REQUESTS_PER_MINUTE: '3' })
    const fields = { client_id: 'bff', client_secret: secret }
    for (let i = 0; i < 10; i++) {
      const headers = { 'x-user-address': `192.0.2.${i}` }
      expect(
        await statusOf(i % 2 ? logIn({ ...headers, ...asClient() }, {}, busy) : logIn(headers, fields, busy)),
      ).toBe(401)
    }
  })
})

describe('a session', () => {
  test('is listed with the address of its user', async () => {
    const { app } = await startService({ ...settings, RATE_LIMITS: 'off' })
    const { email, send } = await signedUp(app)
    const fields = { username: email, password }
    expect(await statusOf(logIn({ ...asClient(), 'x-user-address': '192.0.2.77' }, fields, app))).toBe(200)
    const ips = (await send('GET', '/me/sessions')).json<{ ip: string }[]>().map(({ ip }) => ip)
    expect(ips).toContain('192.0.2.77')
  })
})

describe('the log', () => {
  /** What a server logs that is asked twice with these headers. */
  const linesOf = async (environment: Record<string, string>, headers: Record<string, string>) => {
    const server = startServer({ ...onDatabase(url), ...environment })
    const base = await server.listening
    for (const path of ['/api/v1/me', '/nowhere']) await send(`${base}${path}`, undefined, headers)
    server.child.kill('SIGTERM')
    return (await server.exited).output.split('\n').filter((line) => line.startsWith('{'))
  }

  test('has the address without a port', async () => {
    const lines = await linesOf({ TRUSTED_PROXIES: '127.0.0.1' }, { 'x-forwarded-for': '198.51.100.1:5678' })
    expect(lines.filter((line) => line.includes('"ip":"198.51.100.1"'))).toHaveLength(2)
    expect(lines.join()).not.toContain('a forwarded address is ignored')
  })

  test.each(['x-forwarded-for', 'forwarded', 'x-user-address'])('warns once of %s from a stranger', async (header) => {
    const lines = await linesOf({}, { [header]: '198.51.100.1' })
    expect(lines.filter((line) => line.includes('a forwarded address is ignored'))).toHaveLength(1)
    expect(lines.join()).not.toContain('198.51.100.1')
  })
})

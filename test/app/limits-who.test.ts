import { describe, expect, test } from 'vitest'
import { form, formOf, get, post, refreshWith, type Reply, signedUp, type TokenReply } from '#test/support/actors.ts'
import { type Service, startService } from '#test/support/service.ts'

const max = 30
const clients = { api: 'a-secret-of-the-api', other: 'another-secret-of-16' }
const start = (environment: Record<string, string> = {}) =>
  startService({
    RATE_LIMITS: 'on',
    LIMIT_REQUESTS_PER_MINUTE: String(max),
    OAUTH_CLIENTS: Object.entries(clients)
      .map((pair) => pair.join(':'))
      .join(),
    CONTRACTS: 'kanban,oauth,ai-chat:/chat',
    ...environment,
  })
const basic = (id: keyof typeof clients, secret = clients[id]) => ({
  authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`,
})
const statusesOf = async (count: number, act: (i: number) => Promise<Reply>) => {
  const statuses: number[] = []
  for (let i = 0; i < count; i++) statuses.push((await act(i)).statusCode)
  return [...new Set(statuses)]
}
const ask = ({ app }: Service, url: string, fields: Record<string, string>, headers: Record<string, string> = {}) =>
  post(app, url, formOf(fields), { ...form, ...headers })
const validate = ({ app }: Service, token: string, url = '/api/v1/validate') =>
  post(app, url, '', { authorization: `Bearer ${token}` })

describe('a backend that checks tokens', () => {
  test.each(['/api/v1/validate', '/chat/validate'])('asks %s as often as it likes from one address', async (url) => {
    const service = await start()
    const { tokens } = await signedUp(service.app, { username: 'ada' })
    expect(await statusesOf(2 * max, () => validate(service, tokens.access_token, url))).toEqual([200])
    expect(await statusesOf(2 * max, () => validate(service, 'x.y.z', url))).toEqual([401])
  })

  test('is limited at /validate by session', async () => {
    const service = await start({ LIMIT_CHECKS_PER_MINUTE: '5' })
    const { tokens, logIn } = await signedUp(service.app)
    const second = (await logIn()).json<TokenReply>()
    expect(await statusesOf(5, () => validate(service, tokens.access_token))).toEqual([200])
    const refused = await validate(service, tokens.access_token)
    expect([refused.statusCode, refused.headers['ratelimit-policy']]).toEqual([429, '"checks";q=5;w=60'])
    expect(await statusesOf(1, () => validate(service, second.access_token))).toEqual([200])
  })

  test.each(['/oauth/introspect', '/oauth/revoke'])('is limited at %s by client', async (url) => {
    const service = await start({ LIMIT_CHECKS_PER_MINUTE: String(2 * max) })
    const asBasic = (id: keyof typeof clients) => ask(service, url, { token: 'lkr_none' }, basic(id))
    const asField = () => ask(service, url, { token: 'none', client_id: 'other', client_secret: clients.other })
    expect(await statusesOf(2 * max, () => asBasic('api'))).toEqual([200])
    expect(await statusesOf(2 * max, asField)).toEqual([200])
    expect(await statusesOf(1, () => asBasic('api'))).toEqual([429])
    expect(await statusesOf(1, asField)).toEqual([429])
  })

  test('counts by its address while it does not authenticate', async () => {
    const service = await start()
    const guess = () => ask(service, '/oauth/introspect', { token: 'none' }, basic('api', 'wrong'))
    expect(await statusesOf(max, guess)).toEqual([401])
    expect(await statusesOf(1, guess)).toEqual([429])
    expect((await ask(service, '/oauth/introspect', { token: 'none' }, basic('api'))).statusCode).toBe(200)
  })

  test('counts by its address when it revokes without a client', async () => {
    const service = await start()
    const revoke = () => ask(service, '/oauth/revoke', { token: 'none' })
    expect(await statusesOf(max, revoke)).toEqual([200])
    expect(await statusesOf(1, revoke)).toEqual([429])
  })
})

describe('a request with an access token', () => {
  test('counts by its session, and a refused one by its address', async () => {
    const service = await start()
    const { me, logIn } = await signedUp(service.app)
    const second = (await logIn()).json<TokenReply>()
    expect(await statusesOf(max, () => me())).toEqual([200])
    expect(await statusesOf(1, () => me())).toEqual([429])
    // Three requests of this address were the registration and the logins.
    expect(await statusesOf(max - 3, () => me('x.y.z'))).toEqual([401])
    expect(await statusesOf(1, () => get(service.app, '/api/v1/me'))).toEqual([429])
    expect(await statusesOf(1, () => me(second.access_token))).toEqual([200])
  })

  test('of a session that has ended counts by that session', async () => {
    const { app } = await start()
    const { me, logOut } = await signedUp(app)
    await logOut()
    expect(await statusesOf(max, () => me())).toEqual([401])
    expect(await statusesOf(1, () => me())).toEqual([429])
    expect((await get(app, '/api/v1/me')).statusCode).toBe(401)
  })
})

describe('the limit on the refreshes of a session', () => {
  const generous = { LIMIT_REQUESTS_PER_MINUTE: '3000' }

  test('is not spent by a token with a made-up secret', async () => {
    const { app } = await start(generous)
    const { tokens, refresh } = await signedUp(app)
    const [start_ = ''] = tokens.refresh_token.split('.')
    const madeUp = `${start_}.0.${'A'.repeat(43)}`
    expect(await statusesOf(70, () => refreshWith(app, madeUp))).toEqual([401])
    expect((await refresh()).statusCode).toBe(200)
  })

  test('is not spent by a refresh that the database does not answer', async () => {
    const { app, sql } = await start(generous)
    const { refresh } = await signedUp(app)
    const replies = await sql.begin(async (transaction) => {
      await transaction`lock table sessions in access exclusive mode`
      return Promise.all(Array.from({ length: 60 }, () => refresh()))
    })
    expect(new Set(replies.map(({ statusCode }) => statusCode))).toEqual(new Set([503]))
    expect((await refresh()).statusCode).toBe(200)
  })

  test('counts what comes in a cookie', async () => {
    const { app } = await start(generous)
    const { tokens } = await signedUp(app)
    const headers = { cookie: `latchkey_refresh=${tokens.refresh_token}`, 'x-token-transport': 'cookie' }
    const refresh = () => post(app, '/api/v1/refresh', {}, headers)
    expect(await statusesOf(60, refresh)).toEqual([200])
    expect(await statusesOf(1, refresh)).toEqual([429])
  })

  test('counts retries that are refused, of an ended session for example', async () => {
    const { app } = await start(generous)
    const { refresh, logOut } = await signedUp(app)
    await logOut()
    expect(await statusesOf(60, () => refresh())).toEqual([401])
    expect(await statusesOf(1, () => refresh())).toEqual([429])
  })
})

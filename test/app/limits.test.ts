import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { get, metric, password, post, signedUp } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const proxy = { RATE_LIMITS: 'on', TRUSTED_PROXIES: '127.0.0.0/8' }
const from = (address: string) => ({ 'x-forwarded-for': address })
const { app } = await startService(proxy)

const logIn = (username: string, secret: string, address: string, on = app) =>
  post(on, '/api/v1/token', { username, password: secret }, from(address))

describe('60 wrong logins from one address', () => {
  test('meet a limit, while the owner logs in from another', async () => {
    const { email } = await signedUp(app)
    const statuses: number[] = []
    for (let i = 0; i < 60; i++) statuses.push((await logIn(email, 'wrong password', '198.51.100.1')).statusCode)
    expect(statuses.slice(0, 10)).toEqual(Array(10).fill(401))
    expect(statuses.at(-1)).toBe(429)
    const refused = await logIn(email, password, '198.51.100.1')
    expect([refused.statusCode, Number(refused.headers['retry-after']) > 0]).toEqual([429, true])
    expect(refused.headers['cache-control']).toBe('no-store')
    expect((await logIn(email, password, '203.0.113.7')).statusCode).toBe(200)
  })

  test('for as many accounts meet one too', async () => {
    const statuses = await Promise.all(
      Array.from(
        { length: 60 },
        async (_, i) => (await logIn(`nobody${i}`, 'wrong password', '198.51.100.2')).statusCode,
      ),
    )
    expect(statuses.filter((status) => status === 429).length).toBe(10)
  })

  test('count as one address in the same IPv6 /64', async () => {
    const { email } = await signedUp(app)
    const statuses: number[] = []
    for (let i = 0; i < 12; i++)
      statuses.push((await logIn(email, 'wrong password', `2001:db8:1:2::${i + 1}`)).statusCode)
    expect(statuses.at(-1)).toBe(429)
    expect((await logIn(email, password, '2001:db8:1:3::1')).statusCode).toBe(200)
  })
})

describe('a single-page app with five tabs', () => {
  test('never meets a limit', async () => {
    const { me, refresh } = await signedUp(app)
    for (let round = 0; round < 10; round++) {
      const replies = await Promise.all(Array.from({ length: 5 }, () => [refresh(), me(), me(), me()]).flat())
      expect(replies.filter(({ statusCode }) => statusCode === 429)).toEqual([])
    }
  })
})

describe('the address of a client', () => {
  test('is taken from a trusted proxy only', async () => {
    const { app: direct } = await startService({ RATE_LIMITS: 'on' })
    const { email } = await signedUp(direct)
    const statuses: number[] = []
    for (let i = 0; i < 12; i++)
      statuses.push((await logIn(email, 'wrong password', `192.0.2.${i}`, direct)).statusCode)
    expect(statuses.at(-1)).toBe(429)
  })

  test('is the last one in the chain that is no proxy of ours, whatever a client writes before it', async () => {
    const { email } = await signedUp(app)
    const statuses: number[] = []
    for (let i = 0; i < 12; i++)
      statuses.push((await logIn(email, 'wrong password', `10.9.8.${i}, 198.51.100.77, 127.0.0.1`)).statusCode)
    expect(statuses.at(-1)).toBe(429)
    expect((await logIn(email, password, '10.9.8.7')).statusCode).toBe(200)
  })
})

describe('the limit', () => {
  const statusesOf = async (count: number, act: (i: number) => Promise<{ statusCode: number }>) => {
    const statuses: number[] = []
    for (let i = 0; i < count; i++) statuses.push((await act(i)).statusCode)
    return statuses
  }

  test('of a login counts one account however its name is written', async () => {
    const { email } = await signedUp(app)
    const spellings = [email, email.toUpperCase(), email.replace(/^./, (first) => first.toUpperCase())]
    const statuses = await statusesOf(12, (i) => logIn(spellings[i % 3] ?? '', 'wrong password', '198.51.100.40'))
    expect(statuses.slice(9)).toEqual([401, 429, 429])
  })

  test('of registrations is 60 for an address', async () => {
    const register = () =>
      post(app, '/api/v1/users/', { email: 'none@example.com', password: 'x' }, from('198.51.100.41'))
    const statuses = await statusesOf(61, register)
    expect([statuses[59], statuses[60]]).toEqual([400, 429])
  })

  test('of password confirmations is 10 for an account', async () => {
    const { send } = await signedUp(app)
    const statuses = await statusesOf(11, () => send('DELETE', '/me', { password: 'wrong password' }))
    expect([statuses[9], statuses[10]]).toEqual([401, 429])
    expect((await send('GET', '/me')).statusCode).toBe(200)
  })

  test('of refreshes is 60 for a session and leaves the others alone', async () => {
    const { refresh, logIn: again } = await signedUp(app)
    const statuses = await statusesOf(61, () => refresh())
    expect([statuses[59], statuses[60]]).toEqual([200, 429])
    expect((await refresh((await again()).json<{ refresh_token: string }>().refresh_token)).statusCode).toBe(200)
  })

  test('leaves the monitors alone', async () => {
    const probe = () => app.inject({ method: 'GET', url: '/health', headers: from('198.51.100.42') })
    const statuses = (await Promise.all(Array.from({ length: 3100 }, probe))).map(({ statusCode }) => statusCode)
    expect(new Set(statuses)).toEqual(new Set([200]))
  })
})

describe('a refusal', () => {
  test('says which limit, what it allows and when to come back (draft-ietf-httpapi-ratelimit-headers-11)', async () => {
    const address = '198.51.100.60'
    const replies = await Promise.all(
      Array.from({ length: 11 }, () => logIn('nobody-is-refused', 'wrong password', address)),
    )
    const refused = replies.find(({ statusCode }) => statusCode === 429)
    const seconds = Number(refused?.headers['retry-after'])
    expect(refused?.json()).toMatchObject({ code: 'too_many_requests' })
    expect(seconds > 0 && seconds <= 300).toBe(true)
    expect(refused?.headers).toMatchObject({
      ratelimit: `"login-account-address";r=0;t=${seconds}`,
      'ratelimit-policy': '"login-account-address";q=10;w=300',
    })
  })

  test('is counted by limit; the series are there from the start', async () => {
    const { app: fresh } = await startService({ RATE_LIMITS: 'on', LIMIT_LOGINS_PER_MINUTE: '1' })
    const series = 'auth_rate_limited_total{limit="login"}'
    expect((await get(fresh, '/metrics')).body).toContain(`${series} 0`)
    for (let i = 0; i < 3; i++) await logIn('nobody', 'wrong password', '198.51.100.61', fresh)
    expect(await metric(fresh, series)).toBe(2)
    expect(await metric(fresh, 'auth_rate_limited_total{limit="requests"}')).toBe(0)
  })
})

describe('requests to unknown paths', () => {
  test('are limited too', async () => {
    const { app: busy } = await startService({ RATE_LIMITS: 'on' })
    const statuses = await Promise.all(
      Array.from({ length: 3001 }, async () => (await busy.inject({ method: 'GET', url: '/nowhere' })).statusCode),
    )
    expect(statuses.filter((status) => status === 429).length).toBe(1)
  })
})

describe('docs/security.md', () => {
  test('lists every limit', async () => {
    const contracts = 'kanban,oauth,llm-optimizer:/llm,ai-chat:/chat,auth-signup:/signup,auth-register:/register'
    const { app: full } = await startService({ RATE_LIMITS: 'on', CONTRACTS: contracts })
    const { body } = await get(full, '/metrics')
    const real = [...body.matchAll(/^auth_rate_limited_total\{limit="([^"]+)"\}/gm)].map(([, name]) => name)
    const text = readFileSync(new URL('../../docs/security.md', import.meta.url), 'utf8')
    const documented = [...text.matchAll(/^\| `([a-z-]+)` \|/gm)].map(([, name]) => name)
    expect(new Set(documented)).toEqual(new Set(real))
  })
})

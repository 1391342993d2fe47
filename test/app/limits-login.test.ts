import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { form, formOf, type Actor, password, post, signedUp } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const contracts = 'kanban,oauth,llm-optimizer:/llm,ai-chat:/chat,auth-signup:/signup,auth-register:/register'
const { app, sql } = await startService({
  RATE_LIMITS: 'on',
  LIMIT_LOGINS_PER_MINUTE: '20',
  TRUSTED_PROXIES: '127.0.0.0/8',
  CONTRACTS: contracts,
})

let addresses = 0
/** An address that no other test has used. */
const newAddress = () => `203.0.113.${++addresses}`
const attempt = async (username: string, secret: string, address: string, url = '/api/v1/token') => {
  const fields = { username, password: secret, grant_type: 'password' }
  return (await post(app, url, formOf(fields), { ...form, 'x-forwarded-for': address })).statusCode
}
const inTurn = async (count: number, act: (i: number) => Promise<number>) => {
  const statuses: number[] = []
  for (let i = 0; i < count; i++) statuses.push(await act(i))
  return statuses
}
const wrong = 'wrong password'
const refusedAt = (statuses: number[]) => statuses.indexOf(429) + 1
const named = async (): Promise<Actor & { username: string }> => {
  const username = randomUUID()
  return { ...(await signedUp(app, { username })), username }
}

describe('a login that succeeds', () => {
  test('is no guess: the twentieth is answered as the first', async () => {
    const { email } = await signedUp(app)
    const address = newAddress()
    const statuses = await inTurn(20, () => attempt(email, password, address))
    expect(new Set(statuses)).toEqual(new Set([200]))
  })

  test('takes back only itself: the guesses before it stay counted', async () => {
    const { email } = await signedUp(app)
    const address = newAddress()
    await inTurn(9, () => attempt(email, wrong, address))
    expect(await inTurn(3, () => attempt(email, password, address))).toEqual([200, 200, 200])
    expect(await inTurn(2, () => attempt(email, wrong, address))).toEqual([401, 429])
    expect(await attempt(email, password, address)).toBe(429)
  })

  test('is a guess while the account is disabled, so that nothing tells a right password', async () => {
    const { email, userId } = await signedUp(app)
    await sql`update users set is_active = false where id = ${userId}`
    const address = newAddress()
    expect(refusedAt(await inTurn(12, () => attempt(email, password, address)))).toBe(11)
  })
})

describe('a login that the database does not answer', () => {
  test('is no guess', async () => {
    const { email } = await signedUp(app)
    const address = newAddress()
    const statuses = await sql.begin(async (transaction) => {
      await transaction`lock table sessions in access exclusive mode`
      return Promise.all(Array.from({ length: 5 }, () => attempt(email, password, address)))
    })
    expect(new Set(statuses)).toEqual(new Set([503]))
    expect(refusedAt(await inTurn(12, () => attempt(email, wrong, address)))).toBe(11)
  })
})

describe('guesses', () => {
  test('at the address and at the username of one account count together', async () => {
    const { email, username } = await named()
    const address = newAddress()
    const statuses = await inTurn(12, (i) => attempt(i % 2 === 0 ? email : username, wrong, address))
    expect(refusedAt(statuses)).toBe(11)
  })

  test('at a name that nobody has count alike', async () => {
    const address = newAddress()
    expect(refusedAt(await inTurn(12, () => attempt('nobody-has-it', wrong, address)))).toBe(11)
    expect(await attempt('nobody-has-this', wrong, address)).toBe(401)
    const spellings = ['nobody-has-these', 'Nobody-Has-These', 'NOBODY-HAS-THESE']
    const elsewhere = newAddress()
    expect(refusedAt(await inTurn(12, (i) => attempt(spellings[i % 3] ?? '', wrong, elsewhere)))).toBe(11)
  })

  test('sent at once do not slip through', async () => {
    const { email } = await signedUp(app)
    const address = newAddress()
    const statuses = await Promise.all(Array.from({ length: 30 }, () => attempt(email, wrong, address)))
    expect([401, 429].map((status) => statuses.filter((each) => each === status).length)).toEqual([10, 20])
  })
})

describe('two accounts under attack from everywhere', () => {
  test('leave each address two tries each', async () => {
    const victims = [await signedUp(app), await signedUp(app)]
    await Promise.all(victims.map(({ email }) => inTurn(100, (i) => attempt(email, wrong, `192.0.2.${i}`))))
    const address = newAddress()
    const [one = '', two = ''] = victims.map(({ email }) => email)
    expect(await inTurn(3, () => attempt(one, wrong, address))).toEqual([401, 401, 429])
    expect(await inTurn(3, () => attempt(two, wrong, address))).toEqual([401, 401, 429])
    expect(await inTurn(3, () => attempt(one, password, newAddress()))).toEqual([200, 200, 200])
  })
})

describe('the login at', () => {
  test.each(['/oauth/token', '/llm/login', '/chat/token', '/signup/auth/login', '/register/auth/login'])(
    '%s is limited by account and by address',
    async (url) => {
      const { email, username } = await named()
      const name = url.startsWith('/chat') ? username : email
      const one = newAddress()
      const two = newAddress()
      expect(refusedAt(await inTurn(12, () => attempt(name, wrong, one, url)))).toBe(11)
      const statuses = await Promise.all(Array.from({ length: 25 }, (_, i) => attempt(`nobody-${i}`, wrong, two, url)))
      expect(statuses.filter((status) => status === 429)).toHaveLength(5)
    },
  )
})

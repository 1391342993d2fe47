import { hash as argon2 } from '@node-rs/argon2'
import { hash as bcrypt } from '@node-rs/bcrypt'
import { describe, expect, test } from 'vitest'
import { isBounded, requireSuitablePassword } from '#src/features/login/passwords.ts'
import { metric, password, post, signedUp } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const { app, sql } = await startService()
const hashOf = async (id: number) =>
  String((await sql`select password_hash from users where id = ${id}`)[0]?.['password_hash'])

describe('a password', () => {
  test('is stored as argon2id with the parameters of the settings', async () => {
    const { userId } = await signedUp(app)
    expect(await hashOf(userId)).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/)
  })

  test('is counted in characters, whatever they are made of', () => {
    const check = (text: string) => requireSuitablePassword(text, [], '/password')
    expect(() => check('🐎🔋📎🧷')).toThrow('password_unsuitable')
    const pictures = (count: number) =>
      Array.from({ length: count }, (_, i) => String.fromCodePoint(0x1f400 + ((i * i) % 211))).join('')
    expect(() => check(pictures(128))).not.toThrow()
    expect(() => check(pictures(129))).toThrow('password_unsuitable')
  })

  test.each([
    'password',
    'PASSWORD',
    '12345678',
    'qwertyuiop',
    'iloveyou',
    'trustno1',
    'aaaaaaaa',
    'abcdefgh',
    '98765432',
    'passwordpassword',
    '12341234',
    'password1',
    'Password1',
    'sunshine',
    'princess',
    'football',
    'baseball',
    'superman',
    'starwars',
    'computer',
    'whatever',
    'corvette',
    'mercedes',
    '11111111',
    '00000000',
    '1q2w3e4r',
    'qwerty123',
    'password123',
    'letmein1',
    'asdfghjk',
    '123456789',
    '0123456789',
    '87654321',
    '11223344',
    'abcd1234',
    'zyxwvuts',
  ])('that is common (%s) is refused', (text) => {
    expect(() => requireSuitablePassword(text, [], '/password')).toThrow('password_unsuitable')
  })

  test.each(['ada.lovelace', 'Ada.Lovelace1815', 'ada.lovelace@example.com', 'AdaLovelace!'])(
    "that is the user's own name or address (%s) is refused",
    (text) => {
      const names = ['ada.lovelace@example.com', 'ada.lovelace', 'Ada Lovelace']
      expect(() => requireSuitablePassword(text, names, '/password')).toThrow('password_unsuitable')
    },
  )

  test('has 8 to 128 characters, counted as a person does', () => {
    const suits = (text: string) => requireSuitablePassword(text, [], '/password')
    expect(() => suits('kX9#mQ2')).toThrow()
    expect(() => suits('kX9#mQ2v')).not.toThrow()
    expect(() => suits('🦊🐻🐼🐨🐯🦁🐮🐷')).not.toThrow()
    expect(() => suits(`${'kX9#mQ2v'.repeat(15)}unlike!!`)).not.toThrow()
    expect(() => suits(`${'kX9#mQ2v'.repeat(16)}!`)).toThrow()
  })

  test.each([
    ['at registration', 'POST', '/users', { email: 'long@example.com', password: 'x'.repeat(1025) }],
    ['at login', 'POST', '/token', { username: 'long@example.com', password: 'x'.repeat(1025) }],
    [
      'when it changes',
      'POST',
      '/me/password',
      { current_password: 'x'.repeat(1025), new_password: 'another battery' },
    ],
    ['when the new one is', 'POST', '/me/password', { current_password: password, new_password: 'x'.repeat(129) }],
    ['at deletion', 'DELETE', '/me', { password: 'x'.repeat(1025) }],
  ] as const)('that is too long %s is a 400 before it is hashed', async (_when, method, path, body) => {
    const { send } = await signedUp(app)
    const hashed = () => metric(app, 'auth_password_hash_seconds_count')
    const before = await hashed()
    expect((await send(method, path, body)).statusCode).toBe(400)
    expect(await hashed()).toBe(before)
  })

  test('of an unknown user is checked against a decoy: the same work as for a known one', async () => {
    const { email } = await signedUp(app)
    const work = async (username: string) => {
      const before = await metric(app, 'auth_password_hash_seconds_count')
      await post(app, '/api/v1/token', { username, password: 'wrong password' })
      return (await metric(app, 'auth_password_hash_seconds_count')) - before
    }
    expect([await work(email), await work('nobody'), await work('nobody@example.com')]).toEqual([1, 1, 1])
  })

  test('is compared exactly', async () => {
    const exact = '  Trailing and leading  '
    const { email } = await signedUp(app, { password: exact })
    const statusFor = async (text: string) =>
      (await post(app, '/api/v1/token', { username: email, password: text })).statusCode
    expect(await statusFor(exact)).toBe(200)
    for (const other of [exact.trim(), exact.toLowerCase(), `${exact}\u0301`]) expect(await statusFor(other)).toBe(401)
  })
})

describe('a stored hash', () => {
  const weak = { memoryCost: 8192, timeCost: 1, parallelism: 1 }

  test.each(['2a', '2b', '2y'])('of bcrypt ($%s$) verifies and is upgraded at login', async (version) => {
    const { userId, logIn } = await signedUp(app)
    const hash = (await bcrypt(password, 4)).replace('$2b$', `$${version}$`)
    await sql`update users set password_hash = ${hash} where id = ${userId}`
    expect((await logIn()).statusCode).toBe(200)
    expect(await hashOf(userId)).toMatch(/^\$argon2id\$v=19\$m=19456,t=2/)
    expect((await logIn()).statusCode).toBe(200)
  })

  test('of bcrypt is left as it is when more was typed than the 72 bytes that bcrypt looks at', async () => {
    const { userId, email } = await signedUp(app)
    const long = 'correct horse battery staple '.repeat(3)
    const hash = await bcrypt(long, 4)
    await sql`update users set password_hash = ${hash} where id = ${userId}`
    const slip = { username: email, password: `${long}, with a slip at the end` }
    expect((await post(app, '/api/v1/token', slip)).statusCode).toBe(200)
    expect(await hashOf(userId)).toBe(hash)
    expect((await post(app, '/api/v1/token', { username: email, password: long })).statusCode).toBe(200)
  })

  test('of fewer passes alone is upgraded', async () => {
    const { userId, logIn } = await signedUp(app)
    const hash = await argon2(password, { memoryCost: 19_456, timeCost: 1, parallelism: 1 })
    await sql`update users set password_hash = ${hash} where id = ${userId}`
    expect((await logIn()).statusCode).toBe(200)
    expect(await hashOf(userId)).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/)
  })

  test('of weaker parameters is upgraded, also by ten logins at once', async () => {
    const { userId, logIn } = await signedUp(app)
    await sql`update users set password_hash = ${await argon2(password, weak)} where id = ${userId}`
    const statuses = (await Promise.all(Array.from({ length: 10 }, () => logIn()))).map(({ statusCode }) => statusCode)
    expect(new Set(statuses)).toEqual(new Set([200]))
    expect(await hashOf(userId)).toContain('m=19456,t=2')
  })

  test.each([
    ['argon2i', { algorithm: 1, memoryCost: 19_456, timeCost: 2, parallelism: 1 }],
    ['argon2d', { algorithm: 0, memoryCost: 19_456, timeCost: 2, parallelism: 1 }],
    ['four lanes and less memory', { algorithm: 2, memoryCost: 4096, timeCost: 3, parallelism: 4 }],
  ])('of %s is upgraded', async (_name, options) => {
    const { userId, logIn } = await signedUp(app)
    await sql`update users set password_hash = ${await argon2(password, options)} where id = ${userId}`
    expect((await logIn()).statusCode).toBe(200)
    expect(await hashOf(userId)).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/)
  })

  test('of the current or a higher cost stays as it is', async () => {
    const { userId, logIn } = await signedUp(app)
    for (const cost of [
      { memoryCost: 19_456, timeCost: 2 },
      { memoryCost: 32_768, timeCost: 3 },
    ]) {
      const hash = await argon2(password, { ...cost, parallelism: 1 })
      await sql`update users set password_hash = ${hash} where id = ${userId}`
      expect((await logIn()).statusCode).toBe(200)
      expect(await hashOf(userId)).toBe(hash)
    }
  })

  test('is not upgraded by a login that fails', async () => {
    const { userId, email } = await signedUp(app)
    const hash = await bcrypt(password, 4)
    await sql`update users set password_hash = ${hash} where id = ${userId}`
    expect((await post(app, '/api/v1/token', { username: email, password: 'wrong password' })).statusCode).toBe(401)
    expect(await hashOf(userId)).toBe(hash)
  })

  test('of bcrypt also confirms a change of the password', async () => {
    const { userId, send } = await signedUp(app)
    await sql`update users set password_hash = ${await bcrypt(password, 4)} where id = ${userId}`
    const change = { current_password: password, new_password: 'another battery' }
    expect((await send('POST', '/me/password', change)).statusCode).toBe(204)
  })

  test.each(['', 'x', '$argon2id$', '$2b$99$short', '$argon2id$v=19$m=99999999,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g', null])(
    'that is malformed, missing or too costly (%j) is a failed login',
    async (hash) => {
      const { userId, logIn } = await signedUp(app)
      await sql`update users set password_hash = ${hash} where id = ${userId}`
      expect((await logIn()).statusCode).toBe(401)
    },
  )

  test.each([
    ['malformed', 'x'],
    ['damaged', '$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$'],
    ['missing', null],
  ])('that is %s is not opened by the password of the decoy', async (_name, hash) => {
    const { userId, email } = await signedUp(app)
    await sql`update users set password_hash = ${hash} where id = ${userId}`
    const reply = await post(app, '/api/v1/token', { username: email, password: 'a password that nobody has' })
    expect(reply.statusCode).toBe(401)
  })

  test.each([
    ['m=262144,t=16,p=16', true],
    ['m=262145,t=16,p=16', false],
    ['m=262144,t=17,p=16', false],
    ['m=262144,t=16,p=17', false],
  ])('of argon2 with %s is bounded: %s', (parameters, bounded) => {
    expect(isBounded(`$argon2id$v=19$${parameters}$c2FsdHNhbHQ$aGFzaGhhc2g`)).toBe(bounded)
  })

  test('costs a bounded amount to check', () => {
    expect(isBounded('$2b$15$abcdefghijklmnopqrstuuKq9vGq1rZ8yN3mWc5xT7bD2fH4jL6pS')).toBe(true)
    expect(isBounded('$2b$16$abcdefghijklmnopqrstuuKq9vGq1rZ8yN3mWc5xT7bD2fH4jL6pS')).toBe(false)
  })
})

describe('the gate', () => {
  test('lets as many wait as its length, and answers 503 with Retry-After beyond', async () => {
    const { app: busy } = await startService()
    const replies = await Promise.all(
      Array.from({ length: 300 }, (_, i) => post(busy, '/api/v1/token', { username: `nobody${i}`, password })),
    )
    const refused = replies.filter(({ statusCode }) => statusCode === 503)
    expect(new Set(replies.map(({ statusCode }) => statusCode))).toEqual(new Set([401, 503]))
    expect(refused.length).toBeGreaterThan(0)
    expect(refused.map(({ headers }) => headers['retry-after'])).toContain('5')
  })
})

import { connect } from 'node:net'
import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { form, formOf, get, password, post, signedUp } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const { app, sql } = await startService()
const users = '/api/v1/users/'
const json = { 'content-type': 'application/json' }
const withBytes = (before: string, after: string) =>
  Buffer.concat([Buffer.from(before), Buffer.from([0xff, 0xfe]), Buffer.from(after)])
const listening = app.listen({ port: 0, host: '127.0.0.1' })
const pointersOf = (reply: { json: () => unknown }) =>
  (reply.json() as { errors?: { pointer: string }[] }).errors?.map(({ pointer }) => pointer)

describe('a body', () => {
  test.each([
    ['email', 5],
    ['email', null],
    ['email', ['a@example.com']],
    ['email', {}],
    ['email', 'not an address'],
    ['email', 'a@b@example.com'],
    ['email', 'a@example.com\r\nBcc: b@example.com'],
    ['email', '"a b"@example.com'],
    ['email', 'kim\u212A@example.com'],
    ['email', `${'a'.repeat(65)}@example.com`],
    ['username', 'a@b'],
    ['username', 'a\u200Bb'],
    ['username', ''],
    ['full_name', 'two\nlines'],
    ['full_name', 'x'.repeat(201)],
    ['password', 12_345_678],
    ['password', 'short'],
    ['password', 'x'.repeat(129)],
    ['password', 'nul\0in the middle'],
    ['password', 'lone \ud800 surrogate'],
  ])('with %s = %j is a 400 that names the field', async (field, value) => {
    const reply = await post(app, users, { email: 'input@example.com', password, [field]: value })
    expect(reply.statusCode).toBe(400)
    expect(pointersOf(reply)).toContain(`/${field}`)
    expect(reply.body).not.toContain(password)
  })

  test('without a field is a 400 that names all that are missing', async () => {
    expect(pointersOf(await post(app, users, {}))).toEqual(['/email', '/password'])
  })

  test.each([
    '[]',
    'null',
    '"x"',
    '5',
    '{',
    '',
    '{"a":1}}',
    '{"__proto__":{"roles":["admin"]}}',
    '{"constructor":{"prototype":{}}}',
    '['.repeat(5000),
    `{"email":${'['.repeat(30_000)}${']'.repeat(30_000)}}`,
    `${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}`,
    '{"email":1e400,"password":-1e400}',
    '{"\\ud800":1}',
  ])('that is %.40j is a 400', async (text) => {
    expect((await post(app, users, text, json)).statusCode).toBe(400)
  })

  test.each([
    ['invalid UTF-8 in JSON', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), json],
    ['a UTF-16 byte order mark in JSON', Buffer.from([0xff, 0xfe, 0x7b, 0x00, 0x7d, 0x00]), json],
    ['bytes that are not UTF-8 in the value of a field', withBytes('{"username":"a","password":"', '"}'), json],
    ['__proto__ beside good fields', '{"username":"a","password":"x","__proto__":{"a":1}}', json],
    [
      'constructor.prototype beside good fields',
      '{"username":"a","password":"x","constructor":{"prototype":{}}}',
      json,
    ],
    ['invalid UTF-8 in a form', Buffer.from('username=a&password=\xff', 'latin1'), form],
    ['an escaped lone surrogate in JSON', '{"username":"a","password":"\\udfff"}', json],
    ['an escaped NUL in JSON', '{"username":"a\\u0000","password":"x"}', json],
    ['a name that is not UTF-8', '%FF=1&username=a&password=x', form],
    ['a field given twice after 1,000 others', `username=a&password=x&${'f=1&'.repeat(1000)}password=y`, form],
    ['an encoded lone surrogate in a form', 'username=%ED%A0%80&password=x', form],
    ['an encoded NUL in a form', 'username=a%00b&password=x', form],
    ['a broken percent sign in a form', 'username=%ff&password=x', form],
    ['a field given twice', 'username=a&username=b&password=x', form],
    ['array notation', 'username[]=a&password=x', form],
    ['object notation', 'username[a]=a&password=x', form],
  ])('with %s is a 400', async (_name, payload, headers) => {
    expect((await app.inject({ method: 'POST', url: '/api/v1/token', payload, headers })).statusCode).toBe(400)
  })

  test('with 1,000 unknown fields is read', async () => {
    const { email } = await signedUp(app)
    const payload = `${'f=1&'.repeat(1000)}${formOf({ username: email, password })}`
    expect((await post(app, '/api/v1/token', payload, form)).statusCode).toBe(200)
  })

  test('never sets what is not asked for', async () => {
    const extra = {
      id: 7,
      roles: ['admin'],
      is_active: false,
      email_verified: true,
      session_epoch: 9,
      passwordHash: 'x',
    }
    const { send, userId, logIn } = await signedUp(app, { ...extra, constructor: 1, toString: 1 })
    for (const fields of [{ full_name: 'A', roles: ['admin'] }, { full_name: 'A', id: 1 }, { email: 'b@example.com' }])
      expect((await send('PATCH', '/me', fields)).statusCode).toBe(400)
    const [row] = await sql`select roles, is_active, email_verified_at, session_epoch from users where id = ${userId}`
    expect(row).toEqual({ roles: '{user}', is_active: true, email_verified_at: null, session_epoch: 0 })
    expect((await logIn()).statusCode).toBe(200)
  })

  test.each([
    ['text', { 'content-type': 'text/plain' }],
    ['XML', { 'content-type': 'application/xml' }],
    ['multipart', { 'content-type': 'multipart/form-data; boundary=x' }],
    ['another charset', { 'content-type': 'application/json; charset=iso-8859-1' }],
    ['a compression', { ...json, 'content-encoding': 'gzip' }],
    ['any encoding', { ...json, 'content-encoding': 'identity' }],
    ['a type of its own', { 'content-type': 'application/merge-patch+json' }],
    ['a type that only begins like JSON', { 'content-type': 'application/jsonx' }],
    ['two types', { 'content-type': 'application/json, text/plain' }],
    ['no type', {}],
  ])('in %s is a 415', async (_name, headers) => {
    const payload = gzipSync('{}')
    expect((await app.inject({ method: 'POST', url: users, payload, headers })).statusCode).toBe(415)
  })

  test('over 64 KiB is a 413, one that fits is read', async () => {
    const ofSize = (size: number) => `"${'x'.repeat(size - 2)}"`
    expect((await post(app, users, ofSize(65_536), json)).statusCode).toBe(400)
    expect((await post(app, users, ofSize(65_537), json)).statusCode).toBe(413)
    expect((await post(app, '/api/v1/token', `a=${'x'.repeat(65_535)}`, form)).statusCode).toBe(413)
  })
})

describe('a query', () => {
  const users = '/api/v1/users'

  test.each([
    ['/q', 'q=%FF'],
    ['/q', 'q=%C3'],
    ['/q', 'q=%ED%A0%80'],
    ['/q', 'q=%'],
    ['/q', 'q=a%00'],
    ['', '%FF=1'],
  ])('that is no text is a 400 that names the field (%s): %s', async (pointer, query) => {
    const { userId, tokens } = await signedUp(app)
    await sql`update users set roles = '{user,admin}' where id = ${userId}`
    const authorization = `Bearer ${tokens.access_token}`
    for (const url of [`${users}?${query}`, `/api/v1/me?${query}`]) {
      const reply = await get(app, url, { authorization })
      expect([url, reply.statusCode, pointersOf(reply)]).toEqual([url, 400, [pointer]])
    }
  })

  test('in bytes that are no ASCII is a 400', async () => {
    const base = new URL(await listening)
    for (const bytes of ['\xff', '\xc3\xa4']) {
      const socket = connect(Number(base.port), base.hostname)
      socket.write(Buffer.from(`GET /health?q=${bytes} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`, 'latin1'))
      const [first] = (await socket.toArray()) as Buffer[]
      expect(first?.toString()).toMatch(/^HTTP\/1.1 400 /)
    }
  })

  test('is read as a form is: a plus is a space, and other letters are UTF-8', async () => {
    const { userId, tokens } = await signedUp(app)
    await sql`update users set roles = '{user,admin}', full_name = 'Zoë Ångström' where id = ${userId}`
    const authorization = `Bearer ${tokens.access_token}`
    for (const [q, found] of [
      ['Zo%C3%AB+%c3%85ngstr%C3%B6m', 1],
      ['Zo%C3%AB%2B', 0],
    ] as const) {
      const reply = await get(app, `/api/v1/users?q=${q}`, { authorization })
      expect([q, reply.json<{ items: object[] }>().items.length]).toEqual([q, found])
    }
  })
})

describe('a path', () => {
  test.each(['%FF', '%C3', '%', '%ED%A0%80'])('with the parameter %s is a 400', async (id) => {
    const { send } = await signedUp(app)
    expect((await send('DELETE', `/me/sessions/${id}`)).statusCode).toBe(400)
  })

  test('with a method it does not know is a 405 that names those it does', async () => {
    const reply = await app.inject({ method: 'PUT', url: '/api/v1/me' })
    expect([reply.statusCode, reply.headers['allow']]).toEqual([405, 'DELETE, GET, HEAD, PATCH'])
  })

  test('that is unknown is a 404 with the body of every error', async () => {
    const reply = await get(app, '/nowhere')
    expect([reply.statusCode, reply.json()]).toMatchObject([404, { status: 404, code: 'not_found' }])
  })

  test.each(['1', 'x', '%00', '9'.repeat(40), '019a3b92-ad1f-751a-89a7-4998737bc2e6'])(
    'with the id %s is a 4xx',
    async (id) => {
      const { send } = await signedUp(app)
      expect((await send('DELETE', `/me/sessions/${id}`)).statusCode).toBeOneOf([400, 404])
    },
  )
})

describe('a header', () => {
  test('that is too large is a 431', async () => {
    const base = new URL(await listening)
    const socket = connect(Number(base.port), base.hostname)
    socket.write(`GET /health HTTP/1.1\r\nHost: x\r\nX-Big: ${'a'.repeat(20_000)}\r\n\r\n`)
    const [first] = (await socket.toArray()) as Buffer[]
    expect(first?.toString()).toMatch(/^HTTP\/1.1 431 .*"code":"headers_too_large"/s)
  })
})

describe('text with a meaning elsewhere', () => {
  test.each(["' or 1=1 --", '%', '_', '\\', '"; drop table users; --', '${7*7}', '{{7*7}}', '\u202e', '🤷'])(
    'such as %j is only text',
    async (text) => {
      const { send } = await signedUp(app)
      expect((await send('PATCH', '/me', { full_name: text })).json()).toMatchObject({ full_name: text })
      expect((await post(app, '/api/v1/token', { username: text, password })).statusCode).toBe(401)
    },
  )

  test('leaves the table there', async () => {
    expect((await sql`select count(*) > 0 as there from users`)[0]).toEqual({ there: true })
  })
})

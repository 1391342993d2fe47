import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { describe, expect, test } from 'vitest'
import { form, formOf, get, password, post, type TokenReply } from '#test/support/actors.ts'
import { cloneDatabase, startService } from '#test/support/service.ts'

const database = await cloneDatabase()
const mounted = 'kanban,oauth,llm-optimizer,ai-chat:/ai-chat,auth-signup,auth-register:/auth-register'
const { app } = await startService({ CONTRACTS: mounted }, database)

interface Person {
  readonly username: string
  readonly email: string
}
interface Wire {
  readonly name: string
  readonly register: readonly [path: string, body: (person: Person) => object]
  /** By which names somebody who registered here can log in. */
  readonly names: ReadonlyArray<keyof Person>
  /** Statuses, where they are not 201 and 409. */
  readonly registered?: number
  readonly taken?: number
  readonly logIn: string
  readonly refresh?: string
  readonly logOut?: string
  readonly whoAmI?: readonly ['GET' | 'POST', string]
}
const both = ['username', 'email'] as const

const contracts: readonly Wire[] = [
  {
    name: 'kanban',
    register: ['/api/v1/users/', (person) => ({ ...person, password })],
    names: both,
    logIn: '/api/v1/token',
    refresh: '/api/v1/refresh',
    logOut: '/api/v1/logout',
    whoAmI: ['GET', '/api/v1/me'],
  },
  {
    name: 'llm-optimizer',
    register: ['/register', ({ email }) => ({ email, password, full_name: 'John Doe' })],
    names: ['email'],
    logIn: '/login',
    refresh: '/refresh',
    logOut: '/logout',
    whoAmI: ['GET', '/me'],
  },
  {
    name: 'ai-chat',
    register: ['/ai-chat/register', ({ username }) => ({ name: 'John Doe', username, password })],
    names: ['username'],
    logIn: '/ai-chat/token',
    whoAmI: ['POST', '/ai-chat/validate'],
  },
  {
    name: 'auth-signup',
    register: ['/auth/signup', (person) => ({ ...person, password })],
    registered: 200,
    taken: 400,
    names: both,
    logIn: '/auth/login',
    refresh: '/auth/refresh',
    logOut: '/auth/logout',
    whoAmI: ['GET', '/auth/me'],
  },
  {
    name: 'auth-register',
    register: ['/auth-register/auth/register', (person) => ({ ...person, password })],
    names: both,
    logIn: '/auth-register/auth/login',
  },
]
const refreshing = contracts.flatMap(({ refresh }) => refresh ?? [])
const loggingOut = contracts.flatMap(({ logOut }) => logOut ?? [])
const knowing = contracts.flatMap(({ whoAmI }) => (whoAmI ? [whoAmI] : []))

/** Registers somebody new; resolves to the names that log them in. */
async function registered({ register: [path, body], names }: Wire): Promise<string[]> {
  const username = `u${randomUUID()}`
  const person = { username, email: `${username}@example.com` }
  const reply = await post(app, path, body(person))
  if (reply.statusCode > 201) throw new Error(reply.body)
  return names.map((name) => person[name])
}

async function logIn({ logIn: path }: Wire, username: string): Promise<TokenReply> {
  const reply = await post(app, path, formOf({ username, password }), form)
  expect(reply.statusCode).toBe(200)
  return reply.json<TokenReply>()
}

const bearer = ({ access_token: token }: TokenReply) => ({ authorization: `Bearer ${token}` })

describe.each(contracts)('an account made through $name', (contract) => {
  test('can log in through every contract, by each of its names in any case', async () => {
    for (const name of await registered(contract))
      for (const other of contracts) expect(await logIn(other, name.toUpperCase())).toHaveProperty('access_token')
  })

  test('is known to every contract by its access token', async () => {
    const [name = ''] = await registered(contract)
    const headers = bearer(await logIn(contract, name))
    for (const [method, url] of knowing) expect((await app.inject({ method, url, headers })).statusCode).toBe(200)
  })

  test('is refused a second time', async () => {
    const [path, body] = contract.register
    const username = `u${randomUUID()}`
    const person = body({ username, email: `${username}@example.com` })
    expect((await post(app, path, person)).statusCode).toBe(contract.registered ?? 201)
    expect((await post(app, path, person)).statusCode).toBe(contract.taken ?? 409)
  })

  test('has no more rights than it was given', async () => {
    const [path, body] = contract.register
    const username = `u${randomUUID()}`
    const person = { username, email: `${username}@example.com` }
    const extra = { roles: ['admin'], is_active: false, id: 1, email_verified: true }
    expect((await post(app, path, { ...body(person), ...extra })).statusCode).toBeLessThan(202)
    const [row] = await database.sql`
      select roles::text, is_active, email_verified_at from users where ${username} in (username, split_part(email, '@', 1))`
    expect(row).toEqual({ roles: '{user}', is_active: true, email_verified_at: null })
  })
})

describe.each(contracts)('a refresh token issued through $name', (contract) => {
  test.each(refreshing)('can be refreshed at %s', async (path) => {
    const [name = ''] = await registered(contract)
    const tokens = await logIn(contract, name)
    const reply = await post(app, path, { refresh_token: tokens.refresh_token })
    expect([reply.statusCode, reply.headers['cache-control']]).toEqual([200, 'no-store'])
    expect(reply.json<TokenReply>().refresh_token).not.toBe(tokens.refresh_token)
  })

  test.each(loggingOut)('is revoked, with every session, by a logout at %s', async (path) => {
    const [name = ''] = await registered(contract)
    const sessions = [await logIn(contract, name), await logIn(contract, name)]
    const [first] = sessions as [TokenReply, TokenReply]
    expect((await post(app, path, {}, bearer(first))).statusCode).toBeLessThan(205)
    for (const tokens of sessions) {
      for (const url of refreshing)
        expect((await post(app, url, { refresh_token: tokens.refresh_token })).statusCode).toBe(401)
      for (const [method, url] of knowing)
        expect((await app.inject({ method, url, headers: bearer(tokens) })).statusCode).toBe(401)
    }
  })

  test.each(loggingOut)('can log out at %s by itself', async (path) => {
    const [name = ''] = await registered(contract)
    const tokens = await logIn(contract, name)
    expect((await post(app, path, { refresh_token: tokens.refresh_token })).statusCode).toBeLessThan(205)
    expect((await get(app, '/api/v1/me', bearer(tokens))).statusCode).toBe(401)
  })
})

describe.each(contracts)('the login of $name', (contract) => {
  test('answers with tokens that nobody may store', async () => {
    const [username = ''] = await registered(contract)
    const reply = await post(app, contract.logIn, formOf({ username, password }), form)
    expect([reply.headers['cache-control'], reply.headers['pragma']]).toEqual(['no-store', 'no-cache'])
    expect(reply.json()).toEqual({
      access_token: expect.any(String),
      refresh_token: expect.any(String),
      token_type: 'bearer',
      expires_in: 1800,
    })
  })

  test('takes JSON, a trailing slash, and what Swagger UI sends along', async () => {
    const [username = ''] = await registered(contract)
    expect((await post(app, contract.logIn, { username, password })).statusCode).toBe(200)
    const fields = { grant_type: 'password', username, password, scope: '', client_id: '', client_secret: '' }
    expect((await post(app, `${contract.logIn}/`, formOf(fields), form)).statusCode).toBe(200)
  })

  test.each(['username=a&username=b&password=c', 'username=a&password=c&password=d', 'username[]=a&password=c', ''])(
    'answers 400 to the form %j',
    async (fields) => {
      expect((await post(app, contract.logIn, fields, form)).statusCode).toBe(400)
    },
  )

  test.each([{ username: 1 }, { username: ['a'] }, { username: null }, { password: true }, { password: {} }])(
    'answers 400 to a field of the wrong type in JSON, and names it: %j',
    async (wrong) => {
      const reply = await post(app, contract.logIn, { username: 'a', password: 'b', ...wrong })
      expect(reply.statusCode).toBe(400)
      const { errors } = reply.json<{ errors: { pointer: string }[] }>()
      expect(errors.map(({ pointer }) => pointer)).toEqual([`/${Object.keys(wrong).join()}`])
    },
  )

  test('answers alike to an unknown user and to a wrong password', async () => {
    const [username = ''] = await registered(contract)
    for (const fields of [
      { username, password: 'wrong password' },
      { username: 'nobody', password },
    ]) {
      const reply = await post(app, contract.logIn, formOf(fields), form)
      expect([reply.statusCode, reply.headers['www-authenticate']]).toEqual([401, 'Bearer realm="latchkey"'])
      expect(reply.headers['content-type']).toContain('application/json')
      expect(reply.json()).toEqual({
        type: 'about:blank',
        title: 'Unauthorized',
        status: 401,
        detail: 'Incorrect username or password.',
        error: 'invalid_grant',
        error_description: 'Incorrect username or password.',
        code: 'credentials_invalid',
      })
    }
  })
})

describe('a user without the name that a contract shows', () => {
  test('is shown by the other one, and a missing address as null', async () => {
    const [llm, chat] = [contracts[1] as Wire, contracts[2] as Wire]
    const [email = ''] = await registered(llm)
    const byEmail = bearer(await logIn(llm, email))
    expect((await post(app, '/ai-chat/validate', '', byEmail)).json()).toEqual({ username: email, valid: true })
    expect((await get(app, '/auth/me', byEmail)).json()).toMatchObject({ username: email, email })
    const [username = ''] = await registered(chat)
    const byUsername = bearer(await logIn(chat, username))
    expect((await get(app, '/auth/me', byUsername)).json()).toMatchObject({ username, email: null })
  })
})

describe('what is mounted', () => {
  const documentOf = (service: FastifyInstance) =>
    service.swagger() as unknown as {
      paths: Record<string, Record<string, { operationId: string }>>
      components: { securitySchemes: { OAuth2PasswordBearer: { flows: { password: { tokenUrl: string } } } } }
    }
  const startWith = (contract: string) => startService({ CONTRACTS: contract }, database)

  test('has an operationId of its own for every operation, all contracts together', () => {
    const ids = Object.values(documentOf(app).paths).flatMap((item) =>
      Object.values(item).map(({ operationId }) => operationId),
    )
    expect(ids.length).toBeGreaterThan(25)
    expect(new Set(ids).size).toBe(ids.length)
  })

  test.each([
    ['llm-optimizer', '/login', ['/login', '/logout', '/me', '/refresh', '/register']],
    ['ai-chat:/chat', '/chat/token', ['/chat/register', '/chat/token', '/chat/validate']],
    ['auth-signup', '/auth/login', ['/auth/login', '/auth/logout', '/auth/me', '/auth/refresh', '/auth/signup']],
  ])('is all that the document shows, beside the canonical API: %s', async (contract, tokenUrl, paths) => {
    const { app: service } = await startWith(contract)
    const { paths: shown, components } = documentOf(service)
    const others = Object.keys(shown).filter((path) => !path.startsWith('/api/v1/'))
    expect(others.toSorted()).toEqual([...paths, '/health', '/ready'].toSorted())
    expect(components.securitySchemes.OAuth2PasswordBearer.flows.password.tokenUrl).toBe(tokenUrl)
    expect((await get(service, '/oauth/token')).statusCode).toBe(404)
  })

  test.each([
    ['ai-chat', '/api/v1'],
    ['oauth', '/api/v1'],
    ['kanban', '/api/v1'],
    ['ai-chat,kanban:/own', '/own/api/v1'],
  ])('has the canonical API in it, whatever is listed: %s', async (list, at) => {
    const { app: service } = await startWith(list)
    const canonical = Object.keys(documentOf(app).paths).flatMap((path) => /^\/api\/v1(\/.*)/.exec(path)?.[1] ?? [])
    expect(canonical.length).toBeGreaterThan(15)
    expect(Object.keys(documentOf(service).paths)).toEqual(
      expect.arrayContaining(canonical.map((path) => `${at}${path}`)),
    )
    expect((await get(service, `${at}/me`)).statusCode).toBe(401)
    expect((await get(service, '/api/v1/me')).statusCode).toBe(at === '/api/v1' ? 401 : 404)
  })

  test('is all that the metrics know by name', async () => {
    const { app: service } = await startWith('ai-chat:/chat')
    await post(service, '/chat/validate', '')
    await get(service, '/oauth/token')
    const { body } = await get(service, '/metrics')
    expect(body).toContain('route="/chat/validate"')
    expect(body).not.toContain('/oauth/token')
  })
})

describe('a list of contracts', () => {
  const startWith = (contracts: string) => startService({ CONTRACTS: contracts }, database)

  test.each([
    ['llm-optimizer,ai-chat', 'llm-optimizer', 'ai-chat', 'POST /register'],
    ['auth-register,auth-signup', 'auth-register', 'auth-signup', 'POST /auth/login'],
    ['kanban, ai-chat:/chat, llm-optimizer:/chat', 'ai-chat', 'llm-optimizer', 'POST /chat/register'],
  ])('whose paths collide stops the start: %s', async (list, first, second, route) => {
    await expect(startWith(list)).rejects.toThrow(
      `CONTRACTS: ${first} and ${second} both serve ${route}; mount one under a prefix, such as ${second}:/${second}.`,
    )
  })

  test.each([
    ['nothing', 'CONTRACTS: must be a list of kanban, llm-optimizer, ai-chat, auth-signup, auth-register, oauth'],
    ['constructor', 'CONTRACTS: must be a list of kanban'],
    ['kanban,', 'CONTRACTS: must be a list of contracts, each with a prefix or without: name:/prefix'],
    ['kanban:chat', 'CONTRACTS: must be a list of contracts, each with a prefix or without: name:/prefix'],
    ['kanban:/', 'CONTRACTS: must be a list of contracts, each with a prefix or without: name:/prefix'],
    ['kanban:/a/../b', 'CONTRACTS: must be a list of contracts, each with a prefix or without: name:/prefix'],
    ['kanban:/:id', 'CONTRACTS: must be a list of contracts, each with a prefix or without: name:/prefix'],
    ['kanban,kanban:/x', 'CONTRACTS: kanban is listed twice'],
  ])('that cannot be read stops the start: %s', async (list, sentence) => {
    await expect(startWith(list)).rejects.toThrow(sentence)
  })
})

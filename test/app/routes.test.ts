import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { FastifyInstance } from 'fastify'
import { describe, expect, test } from 'vitest'
import { authenticate } from '#src/routes/authenticate.ts'
import { get, password, post, signedUp } from '#test/support/actors.ts'
import { cloneDatabase, startService } from '#test/support/service.ts'

const { app } = await startService()
const userFields = ['created_at', 'email', 'email_verified', 'full_name', 'id', 'is_active', 'roles', 'username']

describe('a route', () => {
  const open = '/open is neither public nor behind `authenticate`'

  test.each([
    ['bare', {}, `GET ${open}`],
    ['of another method', { method: 'DELETE' as const }, `DELETE ${open}`],
    ['with another hook', { onRequest: async () => {} }, `GET ${open}`],
  ])('without a mark stops the start, wherever it is: %s', async (_name, options, sentence) => {
    const database = await cloneDatabase()
    const stop = onNextApp((service) => {
      service.register(async (scope) => {
        scope.register(async (inner) => inner.route({ method: 'GET', url: '/open', handler: () => 'x', ...options }))
      })
    })
    await expect(startService({}, database).finally(stop)).rejects.toThrow(sentence)
  })

  test('with a mark does not, nor does one of a package', async () => {
    const stop = onNextApp((service) => {
      service.get('/public', { config: { access: 'public' } }, () => 'x')
      service.get('/mine', { onRequest: authenticate }, () => 'x')
    })
    const { app: service } = await startService({ CORS_ORIGINS: 'https://app.example.com' }).finally(stop)
    expect((await get(service, '/public')).body).toBe('x')
    expect((await get(service, '/mine')).statusCode).toBe(401)
    expect((await get(service, '/docs')).statusCode).toBe(200)
  })

  test('answers HEAD as GET, without a body', async () => {
    const { tokens } = await signedUp(app)
    const authorization = `Bearer ${tokens.access_token}`
    const reply = await app.inject({ method: 'HEAD', url: '/api/v1/me', headers: { authorization } })
    expect([reply.statusCode, reply.body]).toEqual([200, ''])
    expect((await app.inject({ method: 'HEAD', url: '/api/v1/me' })).statusCode).toBe(401)
  })

  test.each([
    ['/health', 'GET, HEAD'],
    ['/ready', 'GET, HEAD'],
    ['/api/v1/health', 'GET, HEAD'],
    ['/api/v1/users', 'GET, HEAD, POST'],
    ['/api/v1/token/', 'POST'],
    ['/api/v1/refresh', 'POST'],
    ['/api/v1/logout', 'POST'],
    ['/api/v1/me', 'DELETE, GET, HEAD, PATCH'],
    ['/api/v1/me/password', 'POST'],
    ['/api/v1/me/sessions', 'GET, HEAD'],
    ['/api/v1/me/sessions/1', 'DELETE'],
    ['/api/v1/validate', 'POST'],
  ])('%s knows %s and answers 405 to anything else', async (url, allowed) => {
    for (const method of ['PUT', 'OPTIONS', 'PROPFIND'] as const) {
      const reply = await app.inject({ method, url })
      expect([method, reply.statusCode, reply.headers['allow']]).toEqual([method, 405, allowed])
    }
  })

  test('that knows the method and finds nothing is a 404', async () => {
    expect((await get(app, '/docs/static/nothing')).statusCode).toBe(404)
  })
})

describe('a reply', () => {
  test('about a user holds the declared fields and nothing of the password or the session', async () => {
    const { tokens, send } = await signedUp(app)
    const registered = await post(app, '/api/v1/users/', { email: 'fields@example.com', password })
    for (const reply of [registered, await send('GET', '/me'), await send('PATCH', '/me', { full_name: 'A' })])
      expect(Object.keys(reply.json<object>()).toSorted()).toEqual(userFields)
    const text = (await send('GET', '/me/sessions')).body
    for (const secret of ['digest', 'salt', 'argon2', 'generation', 'epoch', tokens.refresh_token])
      expect(text).not.toContain(secret)
  })
})

describe('CONTRACTS', () => {
  test('mounts a contract under a prefix, which its cookie keeps to', async () => {
    const { app: prefixed } = await startService({ CONTRACTS: 'kanban:/auth' })
    const account = { email: 'prefix@example.com', password }
    expect((await post(prefixed, '/auth/api/v1/users/', account)).statusCode).toBe(201)
    expect((await post(prefixed, '/api/v1/users/', account)).statusCode).toBe(404)
    const login = await post(
      prefixed,
      '/auth/api/v1/token',
      { username: account.email, password },
      { 'x-token-transport': 'cookie' },
    )
    expect(login.cookies.map(({ path }) => path)).toEqual(['/auth/api/v1/refresh', '/auth/api/v1/logout'])
  })

  test('that does not exist stops the start, naming those that do', async () => {
    const database = await cloneDatabase()
    await expect(startService({ CONTRACTS: 'trello' }, database)).rejects.toThrow('CONTRACTS: must be a list of kanban')
  })
})

/** Lets `act` have the next service that is built, before anything else does; returns how to give up on it. */
function onNextApp(act: (service: FastifyInstance) => void): () => void {
  const channel = 'fastify.initialization'
  const stop = () => unsubscribe(channel, listen)
  const listen = (message: unknown) => {
    stop()
    act((message as { fastify: FastifyInstance }).fastify)
  }
  subscribe(channel, listen)
  return stop
}

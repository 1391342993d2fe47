import { execFile, spawnSync } from 'node:child_process'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { promisify } from 'node:util'
import type { FastifyInstance } from 'fastify'
import * as oauth from 'oauth4webapi'
import * as openid from 'openid-client'
import { describe, expect, test } from 'vitest'
import { form, formOf, get, password, post, refreshWith, signedUp, type TokenReply } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const port = await freePort()
const issuer = `http://127.0.0.1:${port}`
const client = { id: 'gateway', secret: 'a-secret-of-the-gateway' }
const { app, sql } = await startService({ PUBLIC_URL: issuer, OAUTH_CLIENTS: `${client.id}:${client.secret}` })
await app.listen({ port })

const basic = { authorization: `Basic ${Buffer.from(`${client.id}:${client.secret}`).toString('base64')}` }
const token = (fields: Record<string, string>) => post(app, '/oauth/token', formOf(fields), form)
const introspect = (text: string, headers: Record<string, string> = basic) =>
  post(app, '/oauth/introspect', formOf({ token: text }), { ...form, ...headers })
const revoke = (text: string) => post(app, '/oauth/revoke', formOf({ token: text }), form)
const errorOf = (reply: { statusCode: number; json: () => unknown }) => [
  reply.statusCode,
  (reply.json() as { error: string }).error,
]

describe('POST /oauth/token', () => {
  test('serves the password grant and the refresh grant', async () => {
    const { email } = await signedUp(app)
    const first = await token({ grant_type: 'password', username: email, password, client_id: 'app' })
    expect(first.headers['cache-control']).toBe('no-store')
    const second = await token({ grant_type: 'refresh_token', refresh_token: first.json<TokenReply>().refresh_token })
    expect(second.json()).toMatchObject({ token_type: 'bearer', expires_in: 1800 })
  })

  test.each([
    [{ grant_type: 'password', username: 'nobody', password }, 'invalid_grant'],
    [{ grant_type: 'refresh_token', refresh_token: 'lkr_unknown' }, 'invalid_grant'],
    [{ grant_type: 'authorization_code', code: 'x' }, 'unsupported_grant_type'],
    [{ grant_type: 'password', username: 'nobody' }, 'invalid_request'],
    [{ grant_type: 'refresh_token' }, 'invalid_request'],
    [{ username: 'nobody', password }, 'invalid_request'],
  ])('answers %j with 400 %s (RFC 6749 §5.2)', async (fields, error) => {
    const reply = await token(fields)
    expect(errorOf(reply)).toEqual([400, error])
    expect(reply.headers['content-type']).toContain('application/json')
  })

  test('refuses a known client with a wrong secret, and takes any public client', async () => {
    const { email } = await signedUp(app)
    const grant = { grant_type: 'password', username: email, password }
    const wrong = await token({ ...grant, client_id: client.id, client_secret: 'wrong' })
    expect([...errorOf(wrong), wrong.headers['www-authenticate']]).toEqual([
      401,
      'invalid_client',
      'Basic realm="oauth"',
    ])
    expect((await token({ ...grant, client_id: 'spa' })).statusCode).toBe(200)
    const empty = await post(app, '/oauth/token', formOf(grant), { ...form, authorization: 'Basic Og==' })
    expect(empty.statusCode).toBe(200)
  })

  test.each([
    'unknown:secret',
    ':secret',
    `${client.id}:`,
    // The secret begins after the first colon and goes on to the end.
    `${client.id}:${client.secret}:`,
    `${client.id}:${client.secret}:x`,
  ])('refuses the Basic credentials %j', async (credentials) => {
    const { email } = await signedUp(app)
    const authorization = `Basic ${Buffer.from(credentials).toString('base64')}`
    const grant = formOf({ grant_type: 'password', username: email, password })
    const reply = await post(app, '/oauth/token', grant, { ...form, authorization })
    expect([...errorOf(reply), reply.headers['www-authenticate']]).toEqual([
      401,
      'invalid_client',
      'Basic realm="oauth"',
    ])
  })

  test('refuses a Basic header that cannot be read', async () => {
    const reply = await post(app, '/oauth/token', formOf({ grant_type: 'password' }), {
      ...form,
      authorization: 'Basic ?',
    })
    expect(errorOf(reply)).toEqual([401, 'invalid_client'])
  })

  test('refuses credentials in the header and in the body at once (RFC 6749 §2.3); the id alone is none', async () => {
    const { tokens } = await signedUp(app)
    const ask = (path: string, fields: Record<string, string>) =>
      post(app, path, formOf({ token: tokens.access_token, ...fields }), { ...form, ...basic })
    for (const path of ['/oauth/token', '/oauth/revoke', '/oauth/introspect'])
      for (const fields of [
        { client_id: client.id, client_secret: client.secret },
        { client_id: 'other' },
        { client_secret: 'wrong' },
      ])
        expect(errorOf(await ask(path, { grant_type: 'password', ...fields }))).toEqual([400, 'invalid_request'])
    expect((await ask('/oauth/introspect', { client_id: client.id })).json()).toMatchObject({ active: true })
  })

  test('counts a parameter without a value as left out (RFC 6749 §3.2)', async () => {
    const { tokens } = await signedUp(app)
    const fields = { grant_type: 'refresh_token', username: '', password: '', scope: '', client_id: '' }
    expect((await token({ ...fields, refresh_token: tokens.refresh_token })).statusCode).toBe(200)
    for (const empty of [{ refresh_token: '' }, { grant_type: '', refresh_token: tokens.refresh_token }])
      expect(errorOf(await token({ ...fields, ...empty }))).toEqual([400, 'invalid_request'])
  })

  test.each(['/oauth/token', '/oauth/revoke', '/oauth/introspect'])('takes a form and no JSON at %s', async (path) => {
    const { tokens } = await signedUp(app)
    const fields = { grant_type: 'refresh_token', refresh_token: tokens.refresh_token, token: tokens.refresh_token }
    const reply = await post(app, path, fields, basic)
    expect([reply.statusCode, reply.json<{ detail: string }>().detail]).toEqual([
      415,
      'The body must be a form (application/x-www-form-urlencoded).',
    ])
  })
})

describe('POST /oauth/revoke (RFC 7009)', () => {
  test.each(['refresh_token', 'access_token'] as const)('ends the session of a %s, and only that', async (kind) => {
    const { tokens, refresh, logIn, me } = await signedUp(app)
    const other = (await logIn()).json<TokenReply>()
    expect((await revoke(tokens[kind])).statusCode).toBe(200)
    expect([(await me()).statusCode, (await refresh()).statusCode]).toEqual([401, 401])
    expect((await refreshWith(app, other.refresh_token)).statusCode).toBe(200)
  })

  test('§2.2: answers 200 for a token that is unknown or revoked already', async () => {
    const { tokens } = await signedUp(app)
    for (const text of ['x', tokens.refresh_token, tokens.refresh_token])
      expect((await revoke(text)).statusCode).toBe(200)
  })
})

describe('POST /oauth/revoke', () => {
  test('refuses a known client with a wrong secret, and ends nothing', async () => {
    const { tokens, me } = await signedUp(app)
    const fields = { token: tokens.refresh_token, client_id: client.id, client_secret: 'wrong' }
    expect(errorOf(await post(app, '/oauth/revoke', formOf(fields), form))).toEqual([401, 'invalid_client'])
    expect((await me()).statusCode).toBe(200)
  })

  test.each(['refresh_token', 'access_token'] as const)(
    'answers 503 for a %s while the database does not answer',
    async (kind) => {
      const { tokens, me } = await signedUp(app)
      const reply = await whileLocked(() => revoke(tokens[kind]))
      expect([reply.statusCode, reply.headers['retry-after']]).toEqual([503, '2'])
      expect((await me()).statusCode).toBe(200)
    },
  )
})

describe('POST /oauth/introspect (RFC 7662)', () => {
  test('tells a client what a token stands for', async () => {
    const { tokens, userId, email } = await signedUp(app)
    const access = (await introspect(tokens.access_token)).json<Record<string, unknown>>()
    expect(access).toMatchObject({
      active: true,
      sub: String(userId),
      client_id: 'latchkey',
      username: email,
      token_type: 'Bearer',
      iss: issuer,
      aud: 'latchkey',
    })
    expect((await introspect(tokens.refresh_token)).json()).toMatchObject({ active: true, sub: String(userId) })
  })

  test('says no more than that a token is not active once it is spent, or its session or user has ended', async () => {
    const spent = await signedUp(app)
    await spent.refresh((await spent.refresh()).json<TokenReply>().refresh_token)
    expect((await introspect(spent.tokens.refresh_token)).json()).toEqual({ active: false })
    const out = await signedUp(app)
    await out.logOut()
    for (const text of [out.tokens.access_token, out.tokens.refresh_token, 'x'])
      expect((await introspect(text)).json()).toEqual({ active: false })
    const disabled = await signedUp(app)
    await sql`update users set is_active = false where id = ${disabled.userId}`
    expect((await introspect(disabled.tokens.access_token)).json()).toEqual({ active: false })
  })

  test('calls active what the token endpoint would take: also a token whose successor was never presented', async () => {
    const { refresh, tokens } = await signedUp(app)
    await refresh()
    expect((await introspect(tokens.refresh_token)).json()).toMatchObject({ active: true })
    await sql`update refresh_tokens set issued_at = issued_at - interval '1 hour'`
    expect((await introspect(tokens.refresh_token)).json()).toMatchObject({ active: true })
    expect(await sql`select 1 from sessions where late_generation is not null`).toHaveLength(0)
  })

  test.each([
    [
      'that has expired',
      (id: number) =>
        sql`update refresh_tokens set expires_at = now() where session_id in (select id from sessions where user_id = ${id})`,
    ],
    ['whose session has expired', (id: number) => sql`update sessions set expires_at = now() where user_id = ${id}`],
    ['whose session has ended', (id: number) => sql`update sessions set revoked_at = now() where user_id = ${id}`],
    ['whose user is locked', (id: number) => sql`update users set is_active = false where id = ${id}`],
  ])('calls a refresh token %s not active', async (_name, change) => {
    const { tokens, userId } = await signedUp(app)
    await change(userId)
    expect((await introspect(tokens.refresh_token)).json()).toEqual({ active: false })
  })

  test.each(['refresh_token', 'access_token'] as const)(
    'answers 503 for a %s while the database does not answer, never that it is not active',
    async (kind) => {
      const { tokens } = await signedUp(app)
      const reply = await whileLocked(() => introspect(tokens[kind]))
      expect([reply.statusCode, reply.headers['retry-after']]).toEqual([503, '2'])
      expect(reply.json()).not.toHaveProperty('active')
    },
  )

  test('§2.1: needs the credentials of a client', async () => {
    const { tokens } = await signedUp(app)
    const wrong = { authorization: `Basic ${Buffer.from('gateway:wrong').toString('base64')}` }
    for (const headers of [{}, wrong, { authorization: `Bearer ${tokens.access_token}` }])
      expect(errorOf(await introspect(tokens.access_token, headers as Record<string, string>))).toEqual([
        401,
        'invalid_client',
      ])
    const inBody = formOf({ token: tokens.access_token, client_id: client.id, client_secret: client.secret })
    expect((await post(app, '/oauth/introspect', inBody, form)).json()).toMatchObject({ active: true })
  })
})

describe('/.well-known', () => {
  test('publishes metadata (RFC 8414) and keys that may be cached', async () => {
    const metadata = await get(app, '/.well-known/oauth-authorization-server')
    expect(metadata.json()).toMatchObject({
      issuer,
      token_endpoint: `${issuer}/oauth/token`,
      response_types_supported: [],
    })
    expect(metadata.headers['cache-control']).toBe('public, max-age=300')
    expect(metadata.headers).not.toHaveProperty('pragma')
    expect((await get(app, '/.well-known/jwks.json')).headers['cache-control']).toBe('public, max-age=300')
  })
})

describe('OpenID Connect Discovery 1.0 §4', () => {
  test('verifiers find the issuer, the key set and the algorithm of access tokens', async () => {
    const settings = { ALGORITHM: 'ES256', PUBLIC_URL: 'https://example.com/auth', CONTRACTS: 'oauth:/sso' }
    const { app: service } = await startService(settings)
    for (const prefix of ['', '/sso'])
      expect((await get(service, `${prefix}/.well-known/openid-configuration`)).json()).toMatchObject({
        issuer: 'https://example.com/auth',
        jwks_uri: 'https://example.com/auth/sso/.well-known/jwks.json',
        id_token_signing_alg_values_supported: ['ES256'],
      })
  })
})

describe('RFC 8414 §3.1', () => {
  const wellKnown = '/.well-known/oauth-authorization-server'
  const endpointAt = async (service: FastifyInstance, url: string) =>
    (await get(service, url)).json<{ issuer: string; token_endpoint: string }>().token_endpoint

  test('the metadata of an issuer with a path is where clients look for it, and where it was', async () => {
    const { app: service } = await startService({ PUBLIC_URL: 'https://example.com/auth' })
    for (const url of [wellKnown, `${wellKnown}/auth`])
      expect(await endpointAt(service, url)).toBe('https://example.com/auth/oauth/token')
    expect(Object.keys(service.swagger().paths ?? {})).not.toContain(`${wellKnown}/auth`)
  })

  test('so it is when the contract has a prefix', async () => {
    const settings = { PUBLIC_URL: 'https://example.com/auth', CONTRACTS: 'kanban,oauth:/sso' }
    const { app: service } = await startService(settings)
    for (const url of [`/sso${wellKnown}`, `${wellKnown}/auth`, `/sso${wellKnown}/auth`])
      expect(await endpointAt(service, url)).toBe('https://example.com/auth/sso/oauth/token')
    expect((await get(service, '/sso/.well-known/jwks.json')).json()).toEqual({ keys: [] })
  })

  test('a prefix alone leaves the metadata at the root, too', async () => {
    const { app: service } = await startService({ PUBLIC_URL: 'https://example.com', CONTRACTS: 'oauth:/sso' })
    for (const url of [wellKnown, `/sso${wellKnown}`])
      expect(await endpointAt(service, url)).toBe('https://example.com/sso/oauth/token')
  })
})

describe('an OAuth client that nobody here wrote', () => {
  test('oauth4webapi discovers the server, logs in, refreshes, introspects and revokes', async () => {
    const { email } = await signedUp(app)
    const insecure = { [oauth.allowInsecureRequests]: true }
    const discovery = await oauth.discoveryRequest(new URL(issuer), { algorithm: 'oauth2', ...insecure })
    const server = await oauth.processDiscoveryResponse(new URL(issuer), discovery)
    const spa: oauth.Client = { client_id: 'spa' }
    const parameters = new URLSearchParams({ username: email, password })
    const login = await oauth.genericTokenEndpointRequest(server, spa, oauth.None(), 'password', parameters, insecure)
    const first = await oauth.processGenericTokenEndpointResponse(server, spa, login)
    const renewal = await oauth.refreshTokenGrantRequest(server, spa, oauth.None(), first.refresh_token ?? '', insecure)
    const second = await oauth.processRefreshTokenResponse(server, spa, renewal)

    const gateway: oauth.Client = { client_id: client.id }
    const secret = oauth.ClientSecretBasic(client.secret)
    const ask = async () => {
      const reply = await oauth.introspectionRequest(server, gateway, secret, second.access_token, insecure)
      return (await oauth.processIntrospectionResponse(server, gateway, reply)).active
    }
    expect(await ask()).toBe(true)
    await oauth.processRevocationResponse(
      await oauth.revocationRequest(server, spa, oauth.None(), second.refresh_token ?? '', insecure),
    )
    expect(await ask()).toBe(false)
  })

  test('openid-client discovers the server, logs in, refreshes and is told of a wrong grant', async () => {
    const { email } = await signedUp(app)
    const options: openid.DiscoveryRequestOptions = { algorithm: 'oauth2', execute: [openid.allowInsecureRequests] }
    const config = await openid.discovery(new URL(issuer), 'spa', undefined, openid.None(), options)
    const first = await openid.genericGrantRequest(config, 'password', { username: email, password })
    const second = await openid.refreshTokenGrant(config, first.refresh_token ?? '')
    expect(second.refresh_token).not.toBe(first.refresh_token)
    const wrong = openid.genericGrantRequest(config, 'password', { username: email, password: 'wrong password' })
    await expect(wrong).rejects.toMatchObject({ error: 'invalid_grant', status: 400 })
  })

  const python = '/usr/bin/python3'
  const installed = spawnSync(python, ['-c', 'import requests_oauthlib, authlib']).status === 0
  if (!installed) process.stdout.write('Left out: requests-oauthlib and authlib, which Debian packages as python3-*.\n')
  test.skipIf(!installed)(
    'requests-oauthlib and authlib log in and refresh by themselves (Debian’s python3-*)',
    async () => {
      const { email } = await signedUp(app)
      const script = new URL('oauth-clients.py', import.meta.url).pathname
      const { stdout } = await promisify(execFile)(python, [script, issuer, email, password])
      expect(JSON.parse(stdout)).toEqual({ requests_oauthlib: [email, true], authlib: [email, true] })
    },
  )
})

/** Runs `use` while another connection holds the sessions, longer than a statement waits. */
async function whileLocked<T>(use: () => Promise<T>): Promise<T> {
  return sql.begin(async (transaction) => {
    await transaction`lock table sessions in access exclusive mode`
    return use()
  }) as Promise<T>
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port: free } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return free
}

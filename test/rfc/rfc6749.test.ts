import { decodeJwt } from 'jose'
import * as oauth from 'oauth4webapi'
import * as openid from 'openid-client'
import { describe, expect, test } from 'vitest'
import { catalogue } from '#src/problem.ts'
import { form, formOf, get, password, post, signedUp, type TokenReply } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const { app } = await startService()
const base = await app.listen({ port: 0 })
const server: oauth.AuthorizationServer = { issuer: base, token_endpoint: `${base}/api/v1/token` }
const client: oauth.Client = { client_id: 'app' }
const insecure = { [oauth.allowInsecureRequests]: true }

async function passwordGrant(username: string, secret: string) {
  const parameters = new URLSearchParams({ username, password: secret })
  const reply = await oauth.genericTokenEndpointRequest(server, client, oauth.None(), 'password', parameters, insecure)
  return oauth.processGenericTokenEndpointResponse(server, client, reply)
}

async function refreshGrant(token: string) {
  const refreshing = { ...server, token_endpoint: `${base}/api/v1/refresh` }
  const reply = await oauth.refreshTokenGrantRequest(refreshing, client, oauth.None(), token, insecure)
  return oauth.processRefreshTokenResponse(refreshing, client, reply)
}

describe('RFC 6749 §4.3 and §6, judged by oauth4webapi', () => {
  test('a password is exchanged for tokens, and those for new ones', async () => {
    const { email } = await signedUp(app)
    const first = await passwordGrant(email, password)
    expect([first.token_type, first.expires_in]).toEqual(['bearer', 1800])
    const second = await refreshGrant(first.refresh_token ?? '')
    expect(second.refresh_token).not.toBe(first.refresh_token)
    const me = await oauth.protectedResourceRequest(
      second.access_token,
      'GET',
      new URL(`${base}/api/v1/me`),
      undefined,
      undefined,
      insecure,
    )
    expect(((await me.json()) as { email: string }).email).toBe(email)
  })

  test('the same holds for openid-client', async () => {
    const { email } = await signedUp(app)
    const at = (path: string) => {
      const config = new openid.Configuration(
        { issuer: base, token_endpoint: `${base}${path}` },
        'app',
        {},
        openid.None(),
      )
      openid.allowInsecureRequests(config)
      return config
    }
    const first = await openid.genericGrantRequest(at('/api/v1/token'), 'password', { username: email, password })
    const second = await openid.refreshTokenGrant(at('/api/v1/refresh'), first.refresh_token ?? '')
    expect(second.refresh_token).not.toBe(first.refresh_token)
  })

  test('a wrong password is told as an OAuth error', async () => {
    const { email } = await signedUp(app)
    await expect(passwordGrant(email, 'wrong password')).rejects.toMatchObject({ status: 401 })
  })
})

describe('RFC 6749 §2.3.1', () => {
  test.each([
    ['ClientSecretBasic', oauth.ClientSecretBasic('secret')],
    ['ClientSecretPost', oauth.ClientSecretPost('secret')],
  ])(
    'a client that authenticates by %s is let in: there are no clients to tell apart',
    async (_name, authentication) => {
      const { email } = await signedUp(app)
      const parameters = new URLSearchParams({ username: email, password })
      const reply = await oauth.genericTokenEndpointRequest(
        server,
        client,
        authentication,
        'password',
        parameters,
        insecure,
      )
      expect(await oauth.processGenericTokenEndpointResponse(server, client, reply)).toHaveProperty('refresh_token')
    },
  )

  test('the credentials of Basic are form-encoded', async () => {
    const secret = 'a-secret/with+signs%&='
    const { app: service } = await startService({ OAUTH_CLIENTS: `gateway:${secret}` })
    const introspect = (text: string) => {
      const authorization = `Basic ${Buffer.from(`gateway:${text}`).toString('base64')}`
      return post(service, '/oauth/introspect', 'token=x', { ...form, authorization })
    }
    expect((await introspect(encodeURIComponent(secret))).json()).toEqual({ active: false })
    expect((await introspect(encodeURIComponent('another-secret%'))).statusCode).toBe(401)
  })

  test('credentials in the URI are not taken', async () => {
    const { email } = await signedUp(app)
    const query = new URLSearchParams({ username: email, password }).toString()
    expect((await post(app, `/api/v1/token?${query}`, '', form)).statusCode).toBe(400)
  })
})

describe('RFC 6749 §3.2', () => {
  test('the token endpoint takes POST only', async () => {
    const reply = await get(app, '/api/v1/token')
    expect([reply.statusCode, reply.headers['allow']]).toEqual([405, 'POST'])
  })

  test('a parameter that is unknown or has no value counts as left out', async () => {
    const { email } = await signedUp(app)
    const body = formOf({ username: email, password, scope: '', client_id: '', resource: 'x', grant_type: '' })
    expect((await post(app, '/api/v1/token', body, form)).statusCode).toBe(200)
  })
})

describe('RFC 6749 §4.3.2', () => {
  test('username and password are UTF-8, whatever they hold', async () => {
    const secret = 'p+ä s%s&w=ö☃rd🦊'
    const { email } = await signedUp(app, { password: secret })
    expect((await passwordGrant(email, secret)).token_type).toBe('bearer')
  })
})

describe('RFC 6749 §5', () => {
  test('§5.1: a token reply is JSON that no cache keeps', async () => {
    const reply = await (await signedUp(app)).logIn()
    expect(reply.headers['content-type']).toContain('application/json')
    expect([reply.headers['cache-control'], reply.headers['pragma']]).toEqual(['no-store', 'no-cache'])
  })

  test('§5.2: every error has a code, and a description of ASCII without quotes and backslashes', () => {
    const codes = ['invalid_request', 'invalid_grant', 'invalid_client', 'unsupported_grant_type', 'access_denied']
    codes.push('invalid_token', 'insufficient_scope')
    for (const [, error, detail] of Object.values(catalogue)) {
      expect(detail).toMatch(/^[\x20-\x21\x23-\x5B\x5D-\x7E]+$/)
      if (error !== null) expect([...codes, 'server_error', 'temporarily_unavailable']).toContain(error)
    }
  })

  test('§5.2: an error is application/json with error and error_description', async () => {
    const reply = await post(app, '/api/v1/token', 'username=nobody%40example.com&password=wrong-password', form)
    expect(reply.headers['content-type']).toContain('application/json')
    expect(reply.json()).toMatchObject({ error: 'invalid_grant', error_description: expect.any(String) as string })
  })

  test('§3.2: a parameter that is missing, empty or given twice is invalid_request', async () => {
    for (const body of [
      'username=a',
      'username=&password=x',
      'username=a&username=b&password=x',
      'username[]=a&password=x',
    ]) {
      const reply = await post(app, '/api/v1/token', body, form)
      expect([reply.statusCode, reply.json<{ error: string }>().error]).toEqual([400, 'invalid_request'])
    }
  })
})

describe('RFC 6749 §6', () => {
  test('a refresh token that is unknown, expired or revoked is invalid_grant', async () => {
    const { tokens, logOut } = await signedUp(app)
    await logOut()
    for (const token of ['unknown', tokens.refresh_token]) {
      const body = formOf({ grant_type: 'refresh_token', refresh_token: token })
      const reply = await post(app, '/api/v1/refresh', body, form)
      expect(reply.headers['content-type']).toBe('application/json')
      expect(reply.json()).toMatchObject({ error: 'invalid_grant' })
    }
  })

  test('a refreshed token keeps its roles and its user', async () => {
    const { tokens, userId, refresh } = await signedUp(app)
    const before = decodeJwt(tokens.access_token)
    const after = decodeJwt((await refresh()).json<TokenReply>().access_token)
    expect([after.sub, after['roles'], after['sid']]).toEqual([String(userId), before['roles'], before['sid']])
  })
})

import * as oauth from 'oauth4webapi'
import * as openid from 'openid-client'
import { describe, expect, test } from 'vitest'
import { form, password, post, signedUp } from '#test/support/actors.ts'
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

describe('RFC 6749 §5', () => {
  test('§5.1: a token reply is JSON that no cache keeps', async () => {
    const reply = await (await signedUp(app)).logIn()
    expect(reply.headers['content-type']).toContain('application/json')
    expect(reply.headers['cache-control']).toBe('no-store')
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

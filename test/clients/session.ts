import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import createClient from 'openapi-fetch'
import type { paths } from './generated/openapi-typescript.ts'

/** One life of a session at `baseUrl`, by a client whose types come from the document. */
export async function session(baseUrl: string): Promise<void> {
  const { GET, POST } = createClient<paths>({ baseUrl })
  const account = { email: `${randomUUID()}@example.com`, password: 'correct horse battery staple' }

  const registered = await POST('/api/v1/users', { body: { ...account, full_name: 'Ada Lovelace' } })
  assert.equal(registered.response.status, 201)
  assert.equal(registered.data?.full_name, 'Ada Lovelace')
  const again = await POST('/api/v1/users', { body: account })
  assert.equal(again.error?.code, 'email_taken')

  const loggedIn = await POST('/api/v1/token', {
    body: { username: account.email, password: account.password },
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    bodySerializer: (body) => new URLSearchParams({ ...body }),
  })
  assert.equal(loggedIn.data?.token_type, 'bearer')

  const refreshed = await POST('/api/v1/refresh', { body: { refresh_token: loggedIn.data.refresh_token! } })
  assert.ok(refreshed.data)
  assert.notEqual(refreshed.data.refresh_token, loggedIn.data.refresh_token)

  const headers = { authorization: `Bearer ${refreshed.data.access_token}` }
  const me = await GET('/api/v1/me', { headers })
  assert.deepEqual(me.data, registered.data)

  const loggedOut = await POST('/api/v1/logout', { headers })
  assert.equal(loggedOut.response.status, 204)
  const after = await GET('/api/v1/me', { headers })
  assert.equal(after.error?.code, 'session_revoked')
}

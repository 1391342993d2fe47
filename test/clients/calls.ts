import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { setConfig } from '@kubb/plugin-client/clients/fetch'
import { OpenAPI, LoginService as codegen } from './generated/codegen'
import { registerUser as heyApi } from './generated/hey-api'
import { client } from './generated/hey-api/client.gen'
import { registerUser as kubb } from './generated/kubb'
import { registerUser as orval } from './generated/orval'

/** One registration at `baseUrl` by each generated client. */
export async function calls(baseUrl: string): Promise<void> {
  client.setConfig({ baseUrl })
  OpenAPI.BASE = baseUrl
  // Kubb's client does not say of itself that it sends JSON.
  setConfig({ baseURL: baseUrl, headers: { 'content-type': 'application/json' } })
  // Orval's calls the place that it comes from, as a page does.
  const fetchOf = globalThis.fetch
  globalThis.fetch = (input, init) => fetchOf(typeof input === 'string' ? new URL(input, baseUrl) : input, init)
  const person = () => ({ email: `${randomUUID()}@example.com`, password: 'correct horse battery staple' })

  const byOrval = await orval(person())
  const users = [
    (await heyApi({ body: person() })).data,
    byOrval.status === 201 ? byOrval.data : undefined,
    await kubb(person()),
    await codegen.registerUser(person()),
  ]
  for (const user of users) assert.deepEqual(user?.roles, ['user'])
}

import { readFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import type { FastifyInstance } from 'fastify'
import { describe, expect, test } from 'vitest'
import { httpFileOf } from '#dev/http-file.ts'
import { catalogue } from '#src/problem.ts'
import { signedUp } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

interface Shape {
  type?: string | string[]
  $ref?: string
  enum?: unknown[]
  properties?: Record<string, Shape>
  examples?: unknown[]
}
interface Body {
  required?: boolean
  content?: Record<string, { schema: Shape }>
}
interface Operation extends Record<'operationId' | 'summary' | 'description', string> {
  tags: string[]
  requestBody?: Body
  responses: Record<string, Body>
}
interface Document {
  info: { version: string }
  tags: { name: string }[]
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, Shape>; securitySchemes: object }
}

const documentOf = (app: FastifyInstance) => app.swagger() as unknown as Document
const { app } = await startService()
const { info, paths, tags, components } = documentOf(app)
const operations = Object.entries(paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ ...operation, route: `${method.toUpperCase()} ${path}` })),
)
const schemaOf = (body: Body, type: string) => body.content?.[type]?.schema

describe('the OpenAPI document', () => {
  test('holds every route that is not a page or a metric', async () => {
    const { app: bare } = await startService({ DOCS: 'off', METRICS: 'off' })
    expect(operations.map(({ route }) => route).toSorted()).toEqual(
      routesOf(bare)
        .filter((route) => !/ \/((account|dev)\/|client\.js|\.well-known\/openid|$)/.test(route))
        .toSorted(),
    )
  })

  test('names every operation', () => {
    expect(operations.map(({ route, operationId }) => `${operationId} ${route}`)).toMatchInlineSnapshot(`
      [
        "getHealth GET /health",
        "getReadiness GET /ready",
        "registerUser POST /api/v1/users",
        "listUsers GET /api/v1/users",
        "logIn POST /api/v1/token",
        "refreshTokens POST /api/v1/refresh",
        "logOut POST /api/v1/logout",
        "getMe GET /api/v1/me",
        "updateMe PATCH /api/v1/me",
        "deleteMe DELETE /api/v1/me",
        "changePassword POST /api/v1/me/password",
        "validateToken POST /api/v1/validate",
        "listSessions GET /api/v1/me/sessions",
        "endSession DELETE /api/v1/me/sessions/{id}",
        "getUser GET /api/v1/users/{id}",
        "changeUser PATCH /api/v1/users/{id}",
        "deleteUser DELETE /api/v1/users/{id}",
        "logOutUser POST /api/v1/users/{id}/logout",
        "listUserEvents GET /api/v1/users/{id}/events",
        "forgotPassword POST /api/v1/forgot-password",
        "resetPassword POST /api/v1/reset-password",
        "verifyEmail POST /api/v1/verify-email",
        "requestVerification POST /api/v1/me/email/verification",
        "changeEmail POST /api/v1/me/email",
        "getApiHealth GET /api/v1/health",
        "oauthToken POST /oauth/token",
        "oauthRevoke POST /oauth/revoke",
        "oauthIntrospect POST /oauth/introspect",
        "getKeySet GET /.well-known/jwks.json",
        "getServerMetadata GET /.well-known/oauth-authorization-server",
      ]
    `)
    expect(new Set(operations.map(({ operationId }) => operationId)).size).toBe(operations.length)
  })

  test.for(operations)('describes $route', ({ summary, description, tags: names, responses, requestBody }) => {
    expect(summary && description).toBeTruthy()
    expect(tags.map(({ name }) => name)).toEqual(expect.arrayContaining(names))
    expect(Object.keys(responses)).toEqual(expect.arrayContaining(['400', '429', '503']))
    for (const [status, response] of Object.entries(responses)) {
      const [content] = Object.values(response.content ?? {})
      if (Number(status) >= 400) expect(content?.schema.$ref).toBe('#/components/schemas/Problem')
      else if (status === '204') expect(response).not.toHaveProperty('content')
      else expect(content).toBeDefined()
    }
    for (const { schema } of Object.values(requestBody?.content ?? {})) expect(schema.$ref).toBeDefined()
  })

  test.for(Object.entries(components.schemas))('has an example for every field of %s', ([, { properties = {} }]) => {
    for (const [name, { examples }] of Object.entries(properties)) expect(examples, name).toHaveLength(1)
  })

  test('takes forms to log in, refresh and log out, and lets the last two go without a body', () => {
    const bodyOf = (path: string) => paths[path]?.['post']?.requestBody ?? {}
    const form = 'application/x-www-form-urlencoded'
    expect(schemaOf(bodyOf('/api/v1/token'), form)?.$ref).toBe('#/components/schemas/PasswordGrant')
    expect(schemaOf(bodyOf('/api/v1/refresh'), form)?.$ref).toBe('#/components/schemas/RefreshGrant')
    expect(schemaOf(bodyOf('/api/v1/logout'), form)?.$ref).toBe('#/components/schemas/LogoutRequest')
    expect(['token', 'refresh', 'logout'].map((name) => bodyOf(`/api/v1/${name}`).required)).toEqual([
      true,
      false,
      false,
    ])
  })

  test('writes null as a type', () => {
    expect(components.schemas['User']?.properties?.['full_name']?.type).toEqual(['string', 'null'])
  })

  test('says where to log in, below a prefix too', async () => {
    const { app: prefixed } = await startService({ CONTRACTS: 'kanban:/x' })
    expect(documentOf(prefixed).components.securitySchemes).toEqual({
      OAuth2PasswordBearer: {
        type: 'oauth2',
        flows: { password: { tokenUrl: '/x/api/v1/token', refreshUrl: '/x/api/v1/refresh', scopes: {} } },
      },
    })
  })

  test('is the one in docs/openapi.json', () => {
    const written: unknown = JSON.parse(readFileSync('docs/openapi.json', 'utf8'))
    const isSame = isDeepStrictEqual(written, JSON.parse(JSON.stringify(app.swagger())))
    expect(isSame, 'docs/openapi.json is of another version; write it with: npm run openapi').toBe(true)
  })

  test('has each operation as a request in docs/api.http, none of which is a bad request', async () => {
    const text = httpFileOf(documentOf(app) as never)
    expect(readFileSync('docs/api.http', 'utf8')).toBe(text)
    const { tokens } = await signedUp(app)
    const requests = text.replaceAll('{{host}}', '').replaceAll('{{token}}', tokens.access_token).split('### ').slice(1)
    expect(requests).toHaveLength(operations.length)
    for (const request of requests) {
      const [head = '', payload = ''] = request.split('\n\n')
      const [, , line = '', ...headers] = head.split('\n')
      const [method, url = ''] = line.split(' ')
      const reply = await app.inject({
        method: method as 'GET',
        url,
        payload: payload.trim(),
        headers: Object.fromEntries(headers.filter(Boolean).map((header) => header.split(': ') as [string, string])),
      })
      const code = reply.body.startsWith('{') ? reply.json<{ code?: string }>().code : undefined
      expect([line, code]).not.toEqual([
        line,
        expect.stringMatching(/^(invalid_request|malformed|media_type|method_not)/),
      ])
    }
  })

  test('is served as it is', async () => {
    const reply = await app.inject('/openapi.json')
    expect(reply.headers['content-type']).toBe('application/json; charset=utf-8')
    expect(reply.json()).toEqual(JSON.parse(JSON.stringify(app.swagger())))
  })
})

describe('generators of clients', () => {
  const contracts = 'kanban,oauth,llm-optimizer:/llm,ai-chat:/chat,auth-signup:/signup,auth-register:/register'

  test('find no two names of operations and components that differ in case only: some file systems know no case', async () => {
    const { app: full } = await startService({ CONTRACTS: contracts })
    const { paths, components } = documentOf(full)
    const ids = Object.values(paths).flatMap((item) => Object.values(item).map(({ operationId }) => operationId))
    const names = [...ids, ...Object.keys(components.schemas), ...Object.keys(components.securitySchemes)]
    const groups = Object.values(Object.groupBy(names, (name) => name.toLowerCase()))
    expect(groups.filter((group = []) => group.length > 1)).toEqual([])
  })

  test('find no empty name in an enumeration', async () => {
    const { app: full } = await startService({ CONTRACTS: contracts })
    const enums: unknown[][] = []
    JSON.stringify(full.swagger(), (name, value: unknown) => {
      if (name === 'enum') enums.push(value as unknown[])
      return value
    })
    expect(enums.length).toBeGreaterThan(0)
    for (const members of enums) expect(members).not.toContain('')
  })

  test('find every code of a problem', () => {
    expect(components.schemas['Problem']?.properties?.['code']?.enum).toEqual(Object.keys(catalogue))
  })

  test('find the version of the package', () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
    expect(info.version).toBe(version)
  })
})

describe('the page of the documentation', () => {
  test('loads nothing from elsewhere and nothing by HTTPS only', async () => {
    const { headers, body } = await app.inject('/docs')
    expect(body).not.toMatch(/(src|href)="(https?:|\/\/)|<script>|<style/)
    expect(headers['content-security-policy']).toContain("default-src 'self'")
    expect(headers['content-security-policy']).not.toMatch(/https:|upgrade-insecure-requests/)
  })
})

/** The router's own list, read from the tree that it prints. */
function routesOf(service: FastifyInstance): string[] {
  const branch: string[] = []
  return service
    .printRoutes({ commonPrefix: false })
    .split('\n')
    .flatMap((line) => {
      const [, indent = '', path = '', methods = ''] = /^([│├└─ ]*)(\S+) \((.*)\)$/.exec(line) ?? []
      branch.splice(indent.length / 4 - 1, Infinity, path)
      const url = branch.join('').replace(/:(\w+)/g, '{$1}')
      return methods.split(', ').flatMap((method) => (method === 'HEAD' || !method ? [] : `${method} ${url}`))
    })
}

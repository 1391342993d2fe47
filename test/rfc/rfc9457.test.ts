import { STATUS_CODES } from 'node:http'
import { describe, expect, test } from 'vitest'
import { get, password, post, signedUp } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const { app } = await startService()
const { email, send } = await signedUp(app)
const json = { 'content-type': 'application/json' }

interface ProblemBody {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly errors?: { pointer: string; detail: string }[]
}

const problems = {
  400: await post(app, '/api/v1/users/', { email: 'none' }),
  401: await get(app, '/api/v1/me'),
  404: await get(app, '/nowhere'),
  405: await app.inject({ method: 'PUT', url: '/api/v1/me' }),
  409: await post(app, '/api/v1/users/', { email, password }),
  413: await post(app, '/api/v1/users/', `"${'x'.repeat(70_000)}"`, json),
  415: await post(app, '/api/v1/users/', 'text', { 'content-type': 'text/plain' }),
}

describe('RFC 9457 §3', () => {
  test.for(Object.entries(problems))('a %s is application/problem+json about itself', ([status, reply]) => {
    expect(reply.headers['content-type']).toBe('application/problem+json')
    const body = reply.json<ProblemBody>()
    expect([reply.statusCode, body.status]).toEqual([Number(status), Number(status)])
    // §4.2.1: with `about:blank` the title is the phrase of the status.
    expect([body.type, body.title]).toEqual(['about:blank', STATUS_CODES[Number(status)]])
    expect(body.detail).toMatch(/^\S.+/)
  })

  test('§3.1.4: the detail helps to correct the request and tells nothing of the inside', async () => {
    const { detail } = problems[400].json<ProblemBody>()
    expect(detail).toBe('password: is required; email: has the wrong form')
    for (const reply of Object.values(problems))
      expect(reply.body).not.toMatch(/node_modules|at \w+ \(|FST_|select|Ajv/)
  })

  test('§3.2: the extension members have names that can be used everywhere', () => {
    for (const reply of Object.values(problems))
      for (const name of Object.keys(reply.json<object>())) expect(name).toMatch(/^[a-z][a-z0-9_]{2,}$/)
  })

  test('the errors of the fields are JSON Pointers into the body', async () => {
    const { errors } = problems[400].json<ProblemBody>()
    expect(errors).toEqual([
      { pointer: '/password', detail: 'is required' },
      { pointer: '/email', detail: 'has the wrong form' },
    ])
    // RFC 6901 §3: `~` and `/` in a name are written as `~0` and `~1`.
    const unknown = (await send('PATCH', '/me', { 'a/b~c': 1 })).json<ProblemBody>()
    expect(unknown.errors).toEqual([{ pointer: '/a~1b~0c', detail: 'is unknown' }])
  })

  test('a HEAD has the status and the type, and no body', async () => {
    const reply = await app.inject({ method: 'HEAD', url: '/nowhere' })
    expect([reply.statusCode, reply.headers['content-type'], reply.body]).toEqual([404, 'application/problem+json', ''])
  })
})

import { describe, expect, test, vi } from 'vitest'
import { password } from '#test/support/actors.ts'
import { untilRefused } from '#test/support/load.ts'
import { onDatabase, send, startServer } from '#test/support/process.ts'
import { cloneDatabase } from '#test/support/service.ts'

const health = () => ({ method: 'GET', path: '/health' }) as const
const login = () =>
  ({ method: 'POST', path: '/api/v1/token', body: { username: 'ada@example.com', password } }) as const

describe.each(['development', 'production'])('SIGTERM under load in %s', (environment) => {
  test('leaves no request without an answer', async () => {
    const { url } = await cloneDatabase()
    const server = startServer({
      ...onDatabase(url),
      ENVIRONMENT: environment,
      PUBLIC_URL: 'https://auth.example.com',
    })
    const base = await server.listening
    await send(`${base}/api/v1/users/`, { email: 'ada@example.com', password })

    const loads = [
      untilRefused(base, 16, true, health),
      untilRefused(base, 16, false, health),
      untilRefused(base, 4, true, login),
    ]
    await send(`${base}/api/v1/token`, { username: 'ada@example.com', password })
    server.child.kill('SIGTERM')

    const outcomes = await Promise.all(loads)
    expect(outcomes.flatMap(({ lost }) => lost)).toEqual([])
    expect(outcomes.map(({ answers }) => [...answers.keys()])).toEqual([[200], [200], [200]])
    expect((await server.exited).code).toBe(0)
  })
})

test('DRAIN_SECONDS leave a load balancer time to notice: /ready fails at once, and the rest is served', async () => {
  const { url } = await cloneDatabase()
  const server = startServer({ ...onDatabase(url), DRAIN_SECONDS: '4' })
  const base = await server.listening
  const signalled = performance.now()
  server.child.kill('SIGTERM')
  await vi.waitUntil(async () => (await send(`${base}/ready`)).status === 503, 4000)
  let served = 0
  for (let answer = 200; answer === 200; answer = (await send(`${base}/health`)).status) served = performance.now()
  // Without them it is less than one; a machine that stands still may miss the end.
  expect(served - signalled).toBeGreaterThan(2000)
  expect((await server.exited).code).toBe(0)
})

import { describe, expect, test } from 'vitest'
import { password } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'
import { caddy, haproxy, lacksProxy, nginx, sendTo, startProxy } from './proxies.ts'

describe.each([nginx, caddy, haproxy])('the service behind $name as deploy/ has it, with TLS', (proxy) => {
  test('sees the address of the client and nobody else’s, and shows its metrics to nobody', async ({ skip }) => {
    const lack = lacksProxy(proxy)
    if (lack !== undefined) return skip(lack)
    const { app, sql } = await startService({ TRUSTED_PROXIES: '127.0.0.1/32', METRICS: 'open', HSTS: 'on' })
    await app.listen({ host: '127.0.0.1', port: 0 })
    const port = await startProxy(proxy, [app.listeningOrigin.replace('http://', '')])

    const person = JSON.stringify({ email: 'ada@example.com', password })
    const json = { 'content-type': 'application/json', 'x-forwarded-for': '203.0.113.7' }
    const registered = await sendTo(port, 'POST', '/api/v1/users/', person, json)
    expect([registered.status, registered.headers['strict-transport-security']]).toEqual([
      201,
      'max-age=31536000; includeSubDomains',
    ])
    expect(await sql`select distinct ip from audit_events`).toEqual([{ ip: '127.0.0.1' }])
    const paths = ['/metrics', '/metrics/', '/%6detrics', '//metrics', '/metrics?a=b']
    for (const path of paths) expect([path, (await sendTo(port, 'GET', path)).status]).toEqual([path, 404])
    expect((await sendTo(port, 'POST', '/api/v1/users/', 'x'.repeat(70_000), json)).status).toBe(413)
  })

  test('is told of no trace that a stranger has begun', async ({ skip }) => {
    const lack = lacksProxy(proxy)
    if (lack !== undefined) return skip(lack)
    const { app } = await startService({ TRUSTED_PROXIES: '127.0.0.1/32' })
    await app.listen({ host: '127.0.0.1', port: 0 })
    const port = await startProxy(proxy, [app.listeningOrigin.replace('http://', '')])
    const seen = new Map<string | undefined, string[]>()
    app.server.on('request', ({ url, headers }) => seen.set(url, Object.keys(headers)))

    const headers = { traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`, TraceState: 'a=b', 'x-other': 'c' }
    // nginx has a location of its own for the refresh.
    for (const path of ['/api/v1/me', '/api/v1/refresh']) {
      await sendTo(port, 'POST', path, '{}', { 'content-type': 'application/json', ...headers })
      expect(seen.get(path)).toContain('x-other')
      expect(seen.get(path)?.filter((name) => name.startsWith('trace'))).toEqual([])
    }
  })
})

import cookie from '@fastify/cookie'
import cors from '@fastify/cors'
import fp from 'fastify-plugin'
import type { Config } from '#src/config.ts'

/** Of the OWASP REST security headers those that browsers of today know; constant, so they cost nothing to make. */
export const securityHeaders = {
  'cache-control': 'no-store',
  // RFC 6749 §5.1 wants it beside `no-store` wherever a token is.
  pragma: 'no-cache',
  'content-security-policy': "default-src 'none';frame-ancestors 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
}

/** What every reply says to browsers: nothing may be framed, sniffed or cached; CORS for the listed origins only. */
export default fp<Pick<Config['network'], 'corsOrigins' | 'hsts'>>(
  async (app, { corsOrigins, hsts }) => {
    const headers = hsts
      ? { ...securityHeaders, 'strict-transport-security': 'max-age=31536000; includeSubDomains' }
      : securityHeaders
    app.addHook('onRequest', (request, reply, done) => {
      reply.headers(headers).header('x-request-id', request.id)
      done()
    })
    await app.register(cookie)
    if (corsOrigins.length === 0) return
    // The package's own route for preflights bears no mark.
    app.addHook('onRoute', (route) => {
      if (route.method === 'OPTIONS' && route.url === '*') route.config = { ...route.config, access: 'public' }
    })
    await app.register(cors, {
      origin: [...corsOrigins],
      credentials: true,
      methods: ['GET', 'POST', 'PATCH', 'DELETE'],
      allowedHeaders: ['authorization', 'content-type', 'x-token-transport'],
      exposedHeaders: ['retry-after', 'ratelimit', 'ratelimit-policy', 'www-authenticate', 'x-request-id'],
      maxAge: 600,
    })
  },
  { name: 'headers', dependencies: ['errors'] },
)

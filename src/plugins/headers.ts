import cookie from '@fastify/cookie'
import cors from '@fastify/cors'
import helmet from '@fastify/helmet'
import fp from 'fastify-plugin'
import type { Config } from '#src/config.ts'

/** What every reply says to browsers: nothing may be framed, sniffed or cached; CORS for the listed origins only. */
export default fp<Pick<Config, 'corsOrigins' | 'hsts'>>(
  async (app, { corsOrigins, hsts }) => {
    await app.register(helmet, {
      contentSecurityPolicy: { useDefaults: false, directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } },
      hsts: hsts ? { maxAge: 31_536_000 } : false,
      referrerPolicy: { policy: 'no-referrer' },
      // For browsers and plug-ins that are gone.
      xDownloadOptions: false,
      xDnsPrefetchControl: false,
      xPermittedCrossDomainPolicies: false,
      xXssProtection: false,
      originAgentCluster: false,
    })
    await app.register(cookie)
    if (corsOrigins.length > 0)
      await app.register(cors, {
        origin: [...corsOrigins],
        credentials: true,
        methods: ['GET', 'POST', 'PATCH', 'DELETE'],
        allowedHeaders: ['authorization', 'content-type', 'x-token-transport'],
        exposedHeaders: ['retry-after', 'www-authenticate', 'x-request-id'],
        maxAge: 600,
      })
    app.addHook('onSend', (request, reply, payload, done) => {
      reply.header('x-request-id', request.id)
      if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'no-store')
      done(null, payload)
    })
  },
  { name: 'headers', dependencies: ['errors'] },
)

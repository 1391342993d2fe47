import { randomUUID } from 'node:crypto'
import { TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox'
import fastify, { type FastifyInstance, LogController } from 'fastify'
import { withinNetworks } from './address.ts'
import type { Config } from './config.ts'
import { logRequests, loggerOptions } from './log.ts'
import address from './plugins/address.ts'
import bodies, { parseFields } from './plugins/bodies.ts'
import core from './plugins/core.ts'
import db from './plugins/db.ts'
import errors, { refusePath } from './plugins/errors.ts'
import headers from './plugins/headers.ts'
import jwt from './plugins/jwt.ts'
import leaving from './plugins/draining.ts'
import mail from './plugins/mail.ts'
import metrics from './plugins/metrics.ts'
import openapi from './plugins/openapi.ts'
import rateLimit from './plugins/rate-limit.ts'
import readiness from './plugins/readiness.ts'
import { refuseConnection } from './plugins/refuse-connection.ts'
import requestLimit from './plugins/request-limit.ts'
import traces from './plugins/traces.ts'
import { requireAccessMark } from './routes/authenticate.ts'
import routes from './routes/index.ts'

/** A config whose database and key are known, wherever they came from. */
export type AppConfig = Config & {
  readonly database: { readonly url: string }
  readonly tokens: { readonly secretKey: string }
}

/** Builds the service, ready to listen; throws when the database or a setting cannot be used. */
export async function buildApp(config: AppConfig): Promise<FastifyInstance> {
  const { trustedProxies } = config.network
  const app = fastify({
    logger: loggerOptions(config.service),
    // One line per request instead of two; see log.ts.
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: () => randomUUID(),
    trustProxy: trustedProxies.length > 0 ? withinNetworks(trustedProxies) : false,
    // A migration may take its time, and starts of other instances wait for it.
    pluginTimeout: 120_000,
    bodyLimit: 65_536,
    requestTimeout: 10_000,
    http: { connectionsCheckingInterval: 2000 },
    return503OnClosing: false,
    routerOptions: { ignoreTrailingSlash: true, querystringParser: parseFields },
    clientErrorHandler: refuseConnection,
    frameworkErrors: refusePath,
  })
  // Parameters and queries hold numbers as text; headers are text.
  app.setValidatorCompiler((route) =>
    TypeBoxValidatorCompiler(route.httpPart === 'headers' ? { ...route, httpPart: 'body' } : route),
  )
  try {
    await assemble(app, config)
  } catch (error) {
    // Connections and timers of the plugins that were registered would keep the process alive.
    await app.close()
    throw error
  }
  return app
}

async function assemble(app: FastifyInstance, config: AppConfig): Promise<void> {
  const { service, network, limits, tokens } = config
  const issuer = tokens.publicUrl ?? `http://localhost:${service.port}`

  requireAccessMark(app)
  app.addHook('onResponse', logRequests)
  await app.register(errors)
  await app.register(traces, config.traces)
  await app.register(leaving)
  await app.register(metrics)
  await app.register(headers, network)
  await app.register(address, { ...network, oauthClients: config.routes.oauthClients })
  await app.register(rateLimit, limits)
  await app.register(requestLimit, limits)
  await app.register(bodies)
  await app.register(openapi, { issuer })
  await app.register(db, config.database)
  await app.register(readiness)
  await app.register(jwt, { ...tokens, issuer })
  await app.register(mail, { ...config.mail, ...service, ...tokens, issuer })
  await app.register(core, config)
  await app.register(routes, { ...config, issuer })

  for (const warning of config.warnings) app.log.warn(warning)
  await app.ready()
}

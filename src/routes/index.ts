import fp from 'fastify-plugin'
import type { Config } from '#src/config.ts'
import { mountContracts } from './mounts.ts'
import operation from './operation.ts'
import accountPages from './pages/account-pages.ts'
import devMailbox from './pages/dev-mailbox.ts'
import docs from './pages/docs.ts'
import frontPage from './pages/front-page.ts'
import { ProblemDetails } from './problems.ts'
import { Session, Tokens, User } from './schemas.ts'

type RouteOptions = Pick<
  Config,
  'production' | 'contracts' | 'jwtAudience' | 'oauthClients' | 'docs' | 'metrics' | 'metricsToken' | 'serviceName'
> & { readonly issuer: string }

/** Every route of the service. */
export default fp<RouteOptions>(
  async (app, options) => {
    app.decorateRequest('auth', null)
    for (const component of [User, Tokens, Session, ProblemDetails]) app.addSchema(component)

    await app.register(operation, options)
    if (options.docs) await app.register(docs)
    await app.register(accountPages)
    await app.register(devMailbox)
    await mountContracts(app, options.contracts, {
      secureCookies: options.production,
      issuer: options.issuer,
      audience: options.jwtAudience,
      oauthClients: options.oauthClients,
    })
    // The last, because it links what there is.
    await app.register(frontPage, options)
  },
  { name: 'routes', dependencies: ['core', 'request-limit', 'headers', 'bodies', 'openapi', 'leaving'] },
)

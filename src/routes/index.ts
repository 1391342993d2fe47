import fp from 'fastify-plugin'
import type { Config } from '#src/config.ts'
import { mountContracts } from './mounts.ts'
import operation from './operation.ts'
import accountPages from './pages/account-pages.ts'
import client from './pages/client.ts'
import devMailbox from './pages/dev-mailbox.ts'
import docs from './pages/docs.ts'
import frontPage from './pages/front-page.ts'
import { ProblemDetails } from './problems.ts'
import { Session, Tokens, User } from './schemas.ts'

type RouteOptions = Pick<Config, 'service' | 'routes' | 'tokens' | 'metrics' | 'mail'> & { readonly issuer: string }

/** Every route of the service. */
export default fp<RouteOptions>(
  async (app, { service, routes, tokens, metrics, mail, issuer }) => {
    app.decorateRequest('auth', null)
    for (const component of [User, Tokens, Session, ProblemDetails]) app.addSchema(component)

    await app.register(operation, metrics)
    if (routes.docs) await app.register(docs)
    await app.register(accountPages)
    await app.register(client)
    await app.register(devMailbox)
    await mountContracts(app, routes.contracts, {
      secureCookies: service.production,
      issuer,
      audience: tokens.audience,
      oauthClients: routes.oauthClients,
    })
    // The last, because it links what there is.
    await app.register(frontPage, { ...service, ...mail })
  },
  { name: 'routes', dependencies: ['core', 'request-limit', 'headers', 'bodies', 'openapi', 'readiness'] },
)

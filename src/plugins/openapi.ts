import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import fp from 'fastify-plugin'
import type { Config } from '#src/config.ts'

const tags = [
  { name: 'login', description: 'Registration, login, refresh and logout.' },
  { name: 'account', description: "The user's own account and sessions." },
  { name: 'operation', description: 'For load balancers and monitors.' },
]

/** The OpenAPI document of what is mounted at `/openapi.json`, and Swagger UI at `/docs`. */
export default fp<Pick<Config, 'docs'> & { issuer: string }>(
  async (app, { docs, issuer }) => {
    await app.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: {
          title: 'Latchkey',
          description: 'Self-hosted authentication: JWT access tokens and single-use rotating refresh tokens.',
          version: '1.0.0',
          contact: { name: 'Latchkey', url: issuer },
          license: { name: 'MIT', identifier: 'MIT' } as never,
        },
        servers: [{ url: issuer }],
        tags,
        components: {
          securitySchemes: {
            OAuth2PasswordBearer: {
              type: 'oauth2',
              flows: { password: { tokenUrl: '/api/v1/token', refreshUrl: '/api/v1/refresh', scopes: {} } },
            },
          },
        },
      },
      refResolver: { buildLocalReference: (json, _base, _fragment, i) => String(json['$id'] ?? `schema-${i}`) },
    })
    if (!docs) return

    const options = { schema: { hide: true }, logLevel: 'warn', config: { access: 'public' } } as const
    app.get('/openapi.json', options, async () => app.swagger())
    await app.register(swaggerUi, {
      routePrefix: '/docs',
      logLevel: 'warn',
      uiConfig: { url: '/openapi.json', deepLinking: true, validatorUrl: null } as never,
      staticCSP: true,
      // It would turn every request of a page that is not on loopback into HTTPS.
      transformStaticCSP: (header) => header.replace(/upgrade-insecure-requests;?/, ''),
    })
  },
  { name: 'openapi', dependencies: ['headers'] },
)

import { readFileSync } from 'node:fs'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyPluginAsync } from 'fastify'

const page = (file: string) => readFileSync(new URL(`../../pages/${file}`, import.meta.url), 'utf8')
const icon = { type: 'image/svg+xml', content: page('latchkey.svg') }

/** The OpenAPI document of what is mounted at `/openapi.json`, and Swagger UI at `/docs`. */
const docs: FastifyPluginAsync = async (app) => {
  const options = { schema: { hide: true }, logLevel: 'warn', config: { access: 'public' } } as const
  app.get('/openapi.json', options, async () => app.swagger())

  // The routes of the package bear no mark of their own.
  app.addHook('onRoute', (route) => {
    route.config = { ...route.config, access: 'public' }
  })
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    logLevel: 'warn',
    theme: {
      title: 'Latchkey',
      favicon: [{ filename: 'latchkey.svg', rel: 'icon', sizes: 'any', ...icon }],
      css: [{ filename: 'docs.css', content: page('docs.css') }],
      js: [{ filename: 'docs.js', content: page('docs.js') }],
    },
    logo: icon,
    // The base layout is the one without the bar to load other documents with.
    uiConfig: { deepLinking: true, validatorUrl: null, persistAuthorization: true, layout: 'BaseLayout' },
    // Nothing from elsewhere. The plugin's own has `upgrade-insecure-requests`, which blanks the page off loopback.
    staticCSP: {
      'default-src': "'self'",
      'img-src': "'self' data:",
      'style-src': "'self' 'unsafe-inline'",
      'object-src': "'none'",
      'frame-ancestors': "'none'",
    },
  })
}

export default docs

import type { FastifyPluginAsync } from 'fastify'
import type { Config } from '#src/config.ts'
import { htmlPage, pageHeaders } from './page.ts'

const links = {
  docs: 'API documentation',
  'openapi.json': 'OpenAPI document',
  health: 'Health',
  ready: 'Readiness',
  metrics: 'Metrics',
  'dev/mails': 'Mailbox',
}

type FrontPageOptions = Pick<Config['service'], 'production'> & Pick<Config['mail'], 'serviceName'>

/** `GET /`: a page with links to what is served already; in production only the name of the service. */
const frontPage: FastifyPluginAsync<FrontPageOptions> = async (app, { production, serviceName }) => {
  const served = Object.entries(links).filter(([path]) => app.hasRoute({ method: 'GET', url: `/${path}` }))
  const items = served.map(([path, label]) => `<li><a href="${path}">${label}</a></li>`)
  const page = htmlPage(serviceName, production ? '' : `<ul>\n${items.join('\n')}\n</ul>`)
  app.get('/', { logLevel: 'warn', config: { access: 'public' }, schema: { hide: true } }, async (_request, reply) =>
    reply.headers(pageHeaders).send(page),
  )
}

export default frontPage

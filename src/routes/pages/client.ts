import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { FastifyPluginAsync } from 'fastify'

const content = readFileSync(new URL('../../pages/client.js', import.meta.url))
const etag = `"${createHash('sha256').update(content).digest('base64url')}"`
const packageFile = new URL('../../../package.json', import.meta.url)
const { version } = JSON.parse(readFileSync(packageFile, 'utf8')) as { version: string }

/** `GET /client.js`: the browser client as a module, for pages without a bundler; with `?v=` this version, for good. */
const client: FastifyPluginAsync = async (app) => {
  app.get<{ Querystring: { v?: string } }>(
    '/client.js',
    { logLevel: 'warn', config: { access: 'public' }, schema: { hide: true } },
    async (request, reply) => {
      reply.removeHeader('pragma').type('text/javascript; charset=utf-8').header('etag', etag)
      reply.header('cache-control', request.query.v === version ? 'public, max-age=31536000, immutable' : 'no-cache')
      return request.headers['if-none-match'] === etag ? reply.code(304).send() : reply.send(content)
    },
  )
}

export default client

import { writeFileSync } from 'node:fs'
import fastify from 'fastify'
import fp from 'fastify-plugin'
import { readConfig } from '#src/config.ts'
import type { Core } from '#src/features/core.ts'
import openapi from '#src/plugins/openapi.ts'
import routes from '#src/routes/index.ts'
import { httpFileOf } from './http-file.ts'

/** Writes the OpenAPI document of the default configuration, and its requests as a file for editors. Its routes are there to be described: none is called. */
const config = readConfig({})
const issuer = `http://localhost:${config.service.port}`
const app = fastify()
app.decorate('core', { lifetimes: config.sessions } as Core)
app.decorate('limit', () => async () => {})
app.decorate('perMinute', config.limits.perMinute)
app.decorate('shownLetters', undefined)
for (const name of ['core', 'request-limit', 'headers', 'bodies', 'draining'])
  app.register(fp(async () => {}, { name }))
app.register(openapi, { issuer })
app.register(routes, { ...config, issuer })
await app.ready()

const write = (file: string, text: string) => writeFileSync(new URL(`../docs/${file}`, import.meta.url), text)
write('openapi.json', `${JSON.stringify(app.swagger(), null, 2)}\n`)
write('api.http', httpFileOf(app.swagger() as unknown as Parameters<typeof httpFileOf>[0]))

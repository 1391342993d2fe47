import { timingSafeEqual } from 'node:crypto'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import type { Config } from '#src/config.ts'
import { digestOf } from '#src/features/tokens/tokens.ts'
import { onceASecond } from '#src/once-a-second.ts'
import { Problem } from '#src/problem.ts'
import { problems } from '#src/routes/problems.ts'
import { Status } from '#src/routes/schemas.ts'

const options = { logLevel: 'warn', config: { access: 'public' } } as const

/**
 * `GET /health`: the process is alive. `GET /ready`: it can serve; 503 while the database is away or it is closing.
 * `GET /metrics`: what Prometheus collects.
 */
const operation: FastifyPluginAsyncTypebox<Config['metrics']> = async (app, { access, token }) => {
  app.get(
    '/health',
    {
      ...options,
      schema: {
        operationId: 'getHealth',
        summary: 'Alive',
        description: 'The process answers; says nothing of the database.',
        tags: ['operation'],
        security: [],
        response: { 200: Status, ...problems([400]) },
      },
    },
    async () => ({ status: 'ok' as const }),
  )

  app.get(
    '/ready',
    {
      ...options,
      schema: {
        operationId: 'getReadiness',
        summary: 'Ready to serve',
        description: '503 while the database is away or the service is closing.',
        tags: ['operation'],
        security: [],
        response: { 200: Status, ...problems([400]) },
      },
    },
    async () => {
      await app.requireReady()
      return { status: 'ok' as const }
    },
  )

  if (access === 'off') return
  const text = onceASecond(() => app.metricsRegistry.metrics())
  app.get('/metrics', { ...options, schema: { hide: true } }, async (request, reply) => {
    if (access === 'on') requireToken(request, token)
    return reply.type(app.metricsRegistry.contentType).send(await text())
  })
}

/** RFC 6750 §3.1. A token that is not configured is one that nobody has. */
function requireToken({ headers: { authorization } }: FastifyRequest, token: string | undefined): void {
  if (authorization === undefined) throw new Problem('token_missing')
  const digests = [authorization, `Bearer ${token}`].map((text) => digestOf(Buffer.from(text))) as [Buffer, Buffer]
  if (token === undefined || !timingSafeEqual(...digests)) throw new Problem('token_invalid')
}

export default operation

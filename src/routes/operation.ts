import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Database } from '#src/db/database.ts'
import { Budget } from '#src/db/budget.ts'
import { reachable } from '#src/db/reachable.sql.ts'
import { Problem } from '#src/problem.ts'
import { problems, Status } from './fields.ts'
import { onceASecond } from '#src/once-a-second.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Lets `/ready` fail from now on, before the service closes. */
    leave: () => void
  }
}

/** Load balancers ask again within seconds, so they are told sooner than a request is, in milliseconds. */
const patienceMs = 1500

/** `GET /health`: the process is alive. `GET /ready`: it can serve; 503 while the database is away or it is closing. */
const health: FastifyPluginAsyncTypebox<{ readonly databaseUrl: string }> = async (app, { databaseUrl }) => {
  const reach = probeOf(app, databaseUrl)
  let leaving = false
  app.decorate('leave', () => {
    leaving = true
  })
  // Or a client would keep its connection, and with it the process, alive.
  app.addHook('onSend', (_request, reply, payload, done) => {
    if (leaving) reply.header('connection', 'close')
    done(null, payload)
  })
  const options = { logLevel: 'warn', config: { access: 'public' } } as const

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
      if (leaving) throw new Problem('unavailable', { cause: 'closing', headers: { 'retry-after': '5' } })
      await reach()
      return { status: 'ok' as const }
    },
  )
}

/** Asks on a connection of its own: an instance that is busy is not one that has to be taken out. */
function probeOf(app: FastifyInstance, databaseUrl: string): () => Promise<void> {
  const db = new Database(databaseUrl, 1)
  app.addHook('onClose', () => db.close())
  return onceASecond(async () => {
    await new Budget(patienceMs).run(() => db.rows(reachable, {}))
  })
}

export default fp(health, { name: 'health', dependencies: ['db', 'errors'] })

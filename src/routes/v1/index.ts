import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { ContractOptions } from '#src/routes/contract.ts'
import { problems } from '#src/routes/problems.ts'
import { Status } from '#src/routes/schemas.ts'
import v1Account from './account.ts'
import v1Administration from './administration.ts'
import v1Login from './login.ts'
import v1Recovery from './recovery.ts'
import v1Registration from './registration.ts'
import v1Sessions from './sessions.ts'

/** The canonical API; in `CONTRACTS` it is called `kanban`, after the service whose paths it has. */
const v1: FastifyPluginAsyncTypebox<ContractOptions> = async (app, options) => {
  for (const subject of [v1Registration, v1Login, v1Account, v1Sessions, v1Administration, v1Recovery])
    // The prefix of this plugin is theirs already.
    await app.register(subject, { ...options, prefix: '' })

  app.get(
    '/health',
    {
      config: { access: 'public' },
      logLevel: 'warn',
      schema: {
        operationId: 'getApiHealth',
        summary: 'Alive',
        description: 'The process answers; says nothing of the database.',
        tags: ['operation'],
        security: [],
        response: { 200: Status, ...problems([400]) },
      },
    },
    async () => ({ status: 'ok' as const }),
  )
}

export default v1

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { revoke } from '#src/features/tokens/introspection.ts'
import type { ContractOptions } from '#src/routes/contract.ts'
import { originOf } from '#src/routes/origin.ts'
import { problems } from '#src/routes/problems.ts'
import { authenticateClient } from './clients.ts'
import { forBackends, form, TokenInQuestion } from './form.ts'

/** Revocation (RFC 7009). */
const oauthRevoke: FastifyPluginAsyncTypebox<ContractOptions> = async (app, { oauthClients }) => {
  const { core } = app

  app.post(
    '/oauth/revoke',
    {
      ...forBackends,
      schema: {
        operationId: 'oauthRevoke',
        summary: 'Revocation (RFC 7009): ends the session of the token',
        description: 'Answers 200 for an unknown token too.',
        ...form,
        body: TokenInQuestion,
        response: {
          200: Type.Object({}, { description: 'Revoked, or never known.' }),
          ...problems([400, 401, 413, 415], 'application/json'),
        },
      },
    },
    async (request) => {
      authenticateClient(request, oauthClients)
      await revoke(core, request.body.token, originOf(request))
      return {}
    },
  )
}

export default oauthRevoke

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { introspect } from '#src/features/tokens/introspection.ts'
import { firstPartyClient } from '#src/features/tokens/tokens.ts'
import type { ContractOptions } from '#src/routes/contract.ts'
import { problems } from '#src/routes/problems.ts'
import { named } from '#src/routes/schemas.ts'
import { requireClient } from './clients.ts'
import { forBackends, form, TokenInQuestion } from './form.ts'

const Introspection = named('Introspection', {
  active: Type.Boolean({ examples: [true] }),
  sub: Type.Optional(Type.String({ examples: ['1'] })),
  client_id: Type.Optional(Type.String({ examples: ['latchkey'] })),
  username: Type.Optional(Type.String({ examples: ['ada'] })),
  token_type: Type.Optional(Type.String({ examples: ['Bearer'] })),
  iss: Type.Optional(Type.String({ examples: ['https://auth.example.com'] })),
  aud: Type.Optional(Type.String({ examples: ['latchkey'] })),
  iat: Type.Optional(Type.Integer({ examples: [1795240203] })),
  exp: Type.Optional(Type.Integer({ examples: [1795242003] })),
  jti: Type.Optional(Type.String({ examples: ['82542bf0-4a4a-4d2d-8a85-2c9cb87c59d9'] })),
  sid: Type.Optional(Type.String({ examples: ['019a3b92-ad1f-751a-89a7-4998737bc2e6'] })),
  roles: Type.Optional(Type.Array(Type.String(), { examples: [['user']] })),
})

/** Introspection (RFC 7662). */
const oauthIntrospect: FastifyPluginAsyncTypebox<ContractOptions> = async (app, { issuer, audience, oauthClients }) => {
  const { core } = app

  app.post(
    '/oauth/introspect',
    {
      ...forBackends,
      schema: {
        operationId: 'oauthIntrospect',
        summary: 'Introspection (RFC 7662), for the clients of OAUTH_CLIENTS',
        description: 'Not active: unknown, expired, spent, or of a session or user that has ended.',
        ...form,
        body: TokenInQuestion,
        response: { 200: Introspection, ...problems([400, 401, 413, 415], 'application/json') },
      },
    },
    async (request) => {
      requireClient(request, oauthClients)
      const state = await introspect(core, request.body.token)
      if (!state.active) return { active: false }
      const { account, claims, tokenType, sessionId, expiresAt } = state
      return {
        active: true,
        sub: String(account.id),
        client_id: firstPartyClient,
        username: account.username ?? account.email ?? '',
        token_type: tokenType,
        iss: issuer,
        aud: audience,
        ...(claims ? { iat: claims.issuedAt, jti: claims.tokenId } : {}),
        exp: expiresAt,
        sid: sessionId,
        roles: account.roles,
      }
    },
  )
}

export default oauthIntrospect

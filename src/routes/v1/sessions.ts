import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { endOneSession } from '#src/features/sessions/logout.ts'
import { listSessions } from '#src/features/sessions/sessions.ts'
import { Problem } from '#src/problem.ts'
import { authenticate, authOf } from '#src/routes/authenticate.ts'
import type { ContractOptions } from '#src/routes/contract.ts'
import { bearer, unauthenticated } from '#src/routes/grants.ts'
import { originOf } from '#src/routes/origin.ts'
import { problems } from '#src/routes/problems.ts'
import { Moment, named, NoContent, ref, Roles, Session, SessionIdText, User } from '#src/routes/schemas.ts'

const SessionId = Type.Object({
  id: Type.String({
    pattern: '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$',
    description: 'As in the list of sessions.',
    examples: ['019a3b92-ad1f-751a-89a7-4998737bc2e6'],
  }),
})
const Validity = named(
  'Validity',
  {
    valid: Type.Boolean({ examples: [true] }),
    username: User.properties.username,
    email: User.properties.email,
    user_id: User.properties.id,
    roles: Roles,
    session_id: SessionIdText,
    expires_at: Moment,
  },
  { description: 'What a valid access token stands for.' },
)
const account = { tags: ['account'], security: bearer }

/** The sessions of a user, and what the one of an access token is worth now. */
const v1Sessions: FastifyPluginAsyncTypebox<ContractOptions> = async (app) => {
  const { core } = app

  app.post(
    '/validate',
    {
      config: { checksTokens: true },
      onRequest: authenticate,
      schema: {
        operationId: 'validateToken',
        summary: 'Check an access token and its session',
        description: 'For other services: a token whose session has ended is refused although it has not expired.',
        ...account,
        response: { 200: Validity, ...problems(unauthenticated) },
      },
    },
    async (request) => {
      const { account: user, sessionId, expiresAt } = authOf(request)
      return {
        valid: true,
        username: user.username,
        email: user.email,
        user_id: user.id,
        roles: user.roles,
        session_id: sessionId,
        expires_at: new Date(expiresAt * 1000).toISOString(),
      }
    },
  )

  app.get(
    '/me/sessions',
    {
      onRequest: authenticate,
      schema: {
        operationId: 'listSessions',
        summary: 'The logins that still stand',
        description: 'One entry per login that is neither ended nor expired.',
        ...account,
        response: { 200: Type.Array(ref(Session), { description: 'The sessions.' }), ...problems(unauthenticated) },
      },
    },
    async (request) => {
      const auth = authOf(request)
      const sessions = await listSessions(core, auth.account.id)
      return sessions.map((session) => ({
        id: session.id,
        created_at: session.createdAt.toISOString(),
        last_used_at: session.lastUsedAt.toISOString(),
        expires_at: session.expiresAt.toISOString(),
        ip: session.ip,
        user_agent: session.userAgent,
        current: session.id === auth.sessionId,
      }))
    },
  )

  app.delete(
    '/me/sessions/:id',
    {
      onRequest: authenticate,
      schema: {
        operationId: 'endSession',
        summary: 'End one login',
        description: 'Its tokens are refused from now on. The session of this access token can be ended too.',
        ...account,
        params: SessionId,
        response: { 204: NoContent, ...problems([400, ...unauthenticated, 404]) },
      },
    },
    async (request, reply) => {
      const session = {
        userId: authOf(request).account.id,
        sessionId: request.params.id,
        reason: 'session_ended',
      } as const
      if (!(await endOneSession(core, session, originOf(request)))) throw new Problem('not_found')
      return reply.code(204).send(null)
    },
  )
}

export default v1Sessions

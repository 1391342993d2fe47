import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { register } from '#src/features/accounts/accounts.ts'
import { FullName, loginNameOf, Username } from '#src/features/accounts/names.ts'
import { authenticate, authOf } from '#src/routes/authenticate.ts'
import type { ContractOptions } from '#src/routes/contract.ts'
import { NewPassword } from '#src/routes/credentials.ts'
import { bearer, serveLogin, unauthenticated } from '#src/routes/grants.ts'
import { limitRegistrations } from '#src/routes/limits.ts'
import { originOf } from '#src/routes/origin.ts'
import { problems } from '#src/routes/problems.ts'
import { named } from '#src/routes/schemas.ts'

const Registration = named('AiChatRegistration', { name: FullName, username: Username, password: NewPassword })
const Registered = named('AiChatUser', {
  id: Type.Integer({ examples: [1] }),
  name: Type.String({ examples: ['Ada Lovelace'] }),
  username: Type.String({ examples: ['ada'] }),
})
const Validity = named('AiChatValidity', {
  username: Type.String({ description: 'Or the e-mail address of a user without one.', examples: ['ada'] }),
  valid: Type.Boolean({ examples: [true] }),
})

/** The contract of the AI Chat auth service: root paths, name and username. */
const aiChat: FastifyPluginAsyncTypebox<ContractOptions> = async (app) => {
  const { core } = app

  app.post(
    '/register',
    {
      config: { access: 'public' },
      preHandler: limitRegistrations(app),
      schema: {
        operationId: 'aiChatRegister',
        summary: 'Register a new user',
        description: 'The account can log in at once, by its username.',
        tags: ['login'],
        security: [],
        body: Registration,
        response: { 201: Registered, ...problems([400, 'password_unsuitable', 'username_taken', 413, 415]) },
      },
    },
    async (request, reply) => {
      const { name, username, password } = request.body
      const { id } = await register(core, { email: null, username, fullName: name, password }, originOf(request))
      return reply.code(201).send({ id, name, username })
    },
  )

  serveLogin(app, '/token', 'aiChatLogIn')

  app.post(
    '/validate',
    {
      config: { checksTokens: true },
      onRequest: authenticate,
      schema: {
        operationId: 'aiChatValidate',
        summary: 'Check an access token and its session',
        description: 'For services that want to know at once when a session has ended.',
        tags: ['account'],
        security: bearer,
        response: { 200: Validity, ...problems(unauthenticated) },
      },
    },
    async (request) => ({ username: loginNameOf(authOf(request).account), valid: true }),
  )
}

export default aiChat

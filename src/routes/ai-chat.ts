import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { register } from '#src/core/accounts.ts'
import { logIn } from '#src/core/sessions.ts'
import { authenticate, authOf } from './authenticate.ts'
import { FullName, loginNameOf, NewPassword, originOf, problems, ref, Tokens, Username } from './fields.ts'
import { bearer, formFirst, PasswordGrant, tokensBody } from './grants.ts'
import type { ContractOptions } from './index.ts'

const Registration = Type.Object({ name: FullName, username: Username, password: NewPassword })
const Registered = Type.Object({
  id: Type.Integer({ examples: [1] }),
  name: Type.String({ examples: ['Ada Lovelace'] }),
  username: Type.String({ examples: ['ada'] }),
})
const Validity = Type.Object({
  username: Type.String({ description: 'Or the e-mail address of a user without one.', examples: ['ada'] }),
  valid: Type.Boolean({ examples: [true] }),
})

/** The contract of the AI Chat auth service: root paths, name and username. */
const aiChat: FastifyPluginAsyncTypebox<ContractOptions> = async (app) => {
  const { core, limit } = app

  app.post(
    '/register',
    {
      config: { access: 'public' },
      preHandler: limit.registration,
      schema: {
        operationId: 'aiChatRegister',
        summary: 'Register a new user',
        tags: ['login'],
        security: [],
        body: Registration,
        response: { 201: Registered, ...problems([400, 409, 413, 415]) },
      },
    },
    async (request, reply) => {
      const { name, username, password } = request.body
      const { id } = await register(core, { email: null, username, fullName: name, password }, originOf(request))
      return reply.code(201).send({ id, name, username })
    },
  )

  app.post(
    '/token',
    {
      config: { access: 'public', oauthErrors: true },
      preHandler: limit.login,
      schema: {
        operationId: 'aiChatLogIn',
        summary: 'Log in with a password',
        tags: ['login'],
        security: [],
        consumes: formFirst,
        body: PasswordGrant,
        response: { 200: ref(Tokens), ...problems([400, 401, 413, 415], 'application/json') },
      },
    },
    async (request) => {
      const { username, password } = request.body
      return tokensBody(await logIn(core, username, password, originOf(request)))
    },
  )

  app.post(
    '/validate',
    {
      onRequest: authenticate,
      schema: {
        operationId: 'aiChatValidate',
        summary: 'Check an access token and its session',
        tags: ['account'],
        security: bearer,
        response: { 200: Validity, ...problems([400, 401]) },
      },
    },
    async (request) => ({ username: loginNameOf(authOf(request).account), valid: true }),
  )
}

export default aiChat

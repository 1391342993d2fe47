import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { register } from '#src/core/accounts.ts'
import { logIn } from '#src/core/sessions.ts'
import { Email, NewPassword, originOf, problems, ref, Tokens, Username } from './fields.ts'
import { formFirst, PasswordGrant, tokensBody } from './grants.ts'
import type { ContractOptions } from './index.ts'

const Registration = Type.Object({ username: Username, email: Email, password: NewPassword })
const Registered = Type.Object({
  message: Type.String({ examples: ['User registered successfully'] }),
  user: Type.String({ examples: ['ada'] }),
})

/** The contract of an auth service under `/auth` with form logins and a password reset by e-mail. */
const authRegister: FastifyPluginAsyncTypebox<ContractOptions> = async (app) => {
  const { core, limit } = app

  app.post(
    '/register',
    {
      config: { access: 'public' },
      preHandler: limit.registration,
      schema: {
        operationId: 'authRegisterRegister',
        summary: 'Register a new user',
        tags: ['login'],
        security: [],
        body: Registration,
        response: { 201: Registered, ...problems([400, 409, 413, 415]) },
      },
    },
    async (request, reply) => {
      const { username, email, password } = request.body
      await register(core, { email, username, fullName: null, password }, originOf(request))
      return reply.code(201).send({ message: 'User registered successfully', user: username })
    },
  )

  app.post(
    '/login',
    {
      config: { access: 'public', oauthErrors: true },
      preHandler: limit.login,
      schema: {
        operationId: 'authRegisterLogIn',
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
}

export default authRegister

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { register } from '#src/features/accounts/accounts.ts'
import { Email, FullName } from '#src/features/accounts/names.ts'
import { userBody } from '#src/features/accounts/user-body.ts'
import { logOutByEither } from '#src/features/sessions/logout.ts'
import { authenticate, authOf, bearerTokenOf } from '#src/routes/authenticate.ts'
import type { ContractOptions } from '#src/routes/contract.ts'
import { NewPassword } from '#src/routes/credentials.ts'
import {
  allowEmptyBody,
  bearer,
  jsonFirst,
  LogoutBody,
  logoutRefusals,
  messageOf,
  serveLogin,
  serveRefresh,
  unauthenticated,
} from '#src/routes/grants.ts'
import { limitRegistrations } from '#src/routes/limits.ts'
import { originOf } from '#src/routes/origin.ts'
import { problems } from '#src/routes/problems.ts'
import { named, Nullable, ref, User } from '#src/routes/schemas.ts'

const Registration = named('LlmOptimizerRegistration', {
  email: Email,
  password: NewPassword,
  full_name: Type.Optional(Nullable(FullName)),
})

const LoggedOut = messageOf('LlmOptimizerLoggedOut', 'Successfully logged out')

/** The contract of the LLMOptimizer auth service: root paths, e-mail address and full name. */
const llmOptimizer: FastifyPluginAsyncTypebox<ContractOptions> = async (app) => {
  const { core } = app

  app.post(
    '/register',
    {
      config: { access: 'public' },
      preHandler: limitRegistrations(app),
      schema: {
        operationId: 'llmOptimizerRegister',
        summary: 'Register a new user',
        description: 'The account can log in at once, by its e-mail address.',
        tags: ['login'],
        security: [],
        body: Registration,
        response: { 201: ref(User), ...problems([400, 'password_unsuitable', 'email_taken', 413, 415]) },
      },
    },
    async (request, reply) => {
      const { email, password, full_name: fullName = null } = request.body
      const account = await register(core, { email, username: null, fullName, password }, originOf(request))
      return reply.code(201).send(userBody(account))
    },
  )

  serveLogin(app, '/login', 'llmOptimizerLogIn')
  serveRefresh(app, 'llmOptimizerRefreshTokens')

  app.get(
    '/me',
    {
      onRequest: authenticate,
      schema: {
        operationId: 'llmOptimizerGetMe',
        summary: 'The current user',
        description: 'Of the access token, as the account is now.',
        tags: ['account'],
        security: bearer,
        response: { 200: ref(User), ...problems(unauthenticated) },
      },
    },
    async (request) => userBody(authOf(request).account),
  )

  app.post(
    '/logout',
    {
      config: { access: 'public' },
      preValidation: allowEmptyBody,
      schema: {
        operationId: 'llmOptimizerLogOut',
        summary: 'End all sessions',
        description: 'By the access token or, when that has expired, by a refresh token in the body.',
        tags: ['login'],
        security: [...bearer, {}],
        consumes: jsonFirst,
        body: LogoutBody,
        response: { 200: LoggedOut, ...problems([400, ...logoutRefusals, 413, 415]) },
      },
    },
    async (request) => {
      const tokens = { accessToken: bearerTokenOf(request), refreshToken: request.body.refresh_token }
      await logOutByEither(core, tokens, 'global', originOf(request))
      return { message: 'Successfully logged out' }
    },
  )
}

export default llmOptimizer

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { register } from '#src/core/accounts.ts'
import { logOutByEither } from '#src/core/logout.ts'
import { refresh } from '#src/core/rotation.ts'
import { logIn } from '#src/core/sessions.ts'
import { authenticate, authOf, bearerTokenOf } from './authenticate.ts'
import { Email, FullName, NewPassword, Nullable, originOf, problems, ref, Tokens, User, userBody } from './fields.ts'
import {
  allowEmptyBody,
  bearer,
  formFirst,
  jsonFirst,
  LogoutBody,
  messageOf,
  PasswordGrant,
  RefreshGrant,
  tokensBody,
} from './grants.ts'
import type { ContractOptions } from './index.ts'

const Registration = Type.Object({
  email: Email,
  password: NewPassword,
  full_name: Type.Optional(Nullable(FullName)),
})

/** The contract of the LLMOptimizer auth service: root paths, e-mail address and full name. */
const llmOptimizer: FastifyPluginAsyncTypebox<ContractOptions> = async (app) => {
  const { core, limit } = app

  app.post(
    '/register',
    {
      config: { access: 'public' },
      preHandler: limit.registration,
      schema: {
        operationId: 'llmOptimizerRegister',
        summary: 'Register a new user',
        tags: ['login'],
        security: [],
        body: Registration,
        response: { 201: ref(User), ...problems([400, 409, 413, 415]) },
      },
    },
    async (request, reply) => {
      const { email, password, full_name: fullName = null } = request.body
      const account = await register(core, { email, username: null, fullName, password }, originOf(request))
      return reply.code(201).send(userBody(account))
    },
  )

  app.post(
    '/login',
    {
      config: { access: 'public', oauthErrors: true },
      preHandler: limit.login,
      schema: {
        operationId: 'llmOptimizerLogIn',
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
    '/refresh',
    {
      config: { access: 'public', oauthErrors: true },
      preHandler: limit.refresh,
      schema: {
        operationId: 'llmOptimizerRefresh',
        summary: 'Exchange a refresh token for new tokens',
        tags: ['login'],
        security: [],
        consumes: jsonFirst,
        body: RefreshGrant,
        response: { 200: ref(Tokens), ...problems([400, 401, 413, 415], 'application/json') },
      },
    },
    async (request) => tokensBody(await refresh(core, request.body.refresh_token, originOf(request))),
  )

  app.get(
    '/me',
    {
      onRequest: authenticate,
      schema: {
        operationId: 'llmOptimizerGetMe',
        summary: 'The current user',
        tags: ['account'],
        security: bearer,
        response: { 200: ref(User), ...problems([400, 401]) },
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
        response: { 200: messageOf('Successfully logged out'), ...problems([400, 401, 413, 415]) },
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

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { register } from '#src/core/accounts.ts'
import { logOutByEither } from '#src/core/logout.ts'
import { refresh } from '#src/core/rotation.ts'
import { logIn } from '#src/core/sessions.ts'
import { authenticate, authOf, bearerTokenOf } from './authenticate.ts'
import {
  Email,
  FullName,
  named,
  NewPassword,
  Nullable,
  originOf,
  problems,
  ref,
  Tokens,
  User,
  userBody,
} from './fields.ts'
import {
  allowEmptyBody,
  bearer,
  formFirst,
  jsonFirst,
  LogoutBody,
  logoutRefusals,
  messageOf,
  PasswordGrant,
  RefreshGrant,
  refreshRefusals,
  tokensBody,
  unauthenticated,
} from './grants.ts'
import type { ContractOptions } from './index.ts'

const Registration = named('LlmOptimizerRegistration', {
  email: Email,
  password: NewPassword,
  full_name: Type.Optional(Nullable(FullName)),
})

const LoggedOut = messageOf('LlmOptimizerLoggedOut', 'Successfully logged out')

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

  app.post(
    '/login',
    {
      config: { access: 'public', oauthErrors: true },
      preHandler: limit.login,
      schema: {
        operationId: 'llmOptimizerLogIn',
        summary: 'Log in with a password',
        description: 'Starts a session: a short-lived access token and a single-use refresh token.',
        tags: ['login'],
        security: [],
        consumes: formFirst,
        body: PasswordGrant,
        response: { 200: ref(Tokens), ...problems([400, 'credentials_invalid', 413, 415], 'application/json') },
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
        operationId: 'llmOptimizerRefreshTokens',
        summary: 'Exchange a refresh token for new tokens',
        description: 'A retry with the same token within the grace window gets the same new token again.',
        tags: ['login'],
        security: [],
        consumes: jsonFirst,
        body: RefreshGrant,
        response: { 200: ref(Tokens), ...problems([400, ...refreshRefusals, 413, 415], 'application/json') },
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

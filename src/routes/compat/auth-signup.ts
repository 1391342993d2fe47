import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import type { Account } from '#src/features/accounts/accounts.sql.ts'
import { register } from '#src/features/accounts/accounts.ts'
import { Email, loginNameOf, Username } from '#src/features/accounts/names.ts'
import { logOutByEither } from '#src/features/sessions/logout.ts'
import { Problem } from '#src/problem.ts'
import { authenticate, authOf, bearerTokenOf } from '#src/routes/authenticate.ts'
import type { ContractOptions } from '#src/routes/contract.ts'
import { NewPassword } from '#src/routes/credentials.ts'
import {
  allowEmptyBody,
  bearer,
  jsonFirst,
  LogoutBody,
  messageOf,
  serveLogin,
  serveRefresh,
  unauthenticated,
} from '#src/routes/grants.ts'
import { limitRegistrations } from '#src/routes/limits.ts'
import { originOf } from '#src/routes/origin.ts'
import { problems } from '#src/routes/problems.ts'
import { named, Nullable } from '#src/routes/schemas.ts'

const Registration = named('AuthSignupRegistration', { username: Username, email: Email, password: NewPassword })
const SignedUpUser = named('AuthSignupUser', {
  id: Type.Integer({ examples: [1] }),
  username: Type.String({ description: 'Or the e-mail address of a user without one.', examples: ['ada'] }),
  email: Nullable(Type.String({ examples: ['ada@example.com'] })),
  is_active: Type.Boolean({ examples: [true] }),
})

const LoggedOut = messageOf('AuthSignupLoggedOut', 'Logout successful')

/** The contract of an auth service under `/auth` with JSON logins. */
const authSignup: FastifyPluginAsyncTypebox<ContractOptions> = async (app) => {
  const { core } = app

  app.post(
    '/signup',
    {
      config: { access: 'public' },
      preHandler: limitRegistrations(app),
      schema: {
        operationId: 'authSignupRegister',
        summary: 'Register a new user',
        description: 'The account can log in at once, by its e-mail address or its username.',
        tags: ['login'],
        security: [],
        body: Registration,
        response: {
          200: SignedUpUser,
          ...problems([400, 'password_unsuitable', 'already_registered', 413, 415]),
        },
      },
    },
    async (request) => {
      const { username, email, password } = request.body
      const created = register(core, { email, username, fullName: null, password }, originOf(request))
      return signedUpBody(await created.catch(asAlreadyRegistered))
    },
  )

  serveLogin(app, '/login', 'authSignupLogIn', jsonFirst)
  serveRefresh(app, 'authSignupRefreshTokens')

  app.post(
    '/logout',
    {
      config: { access: 'public' },
      preValidation: allowEmptyBody,
      schema: {
        operationId: 'authSignupLogOut',
        summary: 'End all sessions',
        description: 'By an access token or a refresh token; without one that is valid there is nothing to end.',
        tags: ['login'],
        security: [...bearer, {}],
        consumes: jsonFirst,
        body: LogoutBody,
        response: { 200: LoggedOut, ...problems([400, 'malformed_authorization', 413, 415]) },
      },
    },
    async (request) => {
      await endSessionsIfAny(request).catch(unlessUnauthorized)
      return { message: 'Logout successful' }
    },
  )

  app.get(
    '/me',
    {
      onRequest: authenticate,
      schema: {
        operationId: 'authSignupGetMe',
        summary: 'The current user',
        description: 'Of the access token, as the account is now.',
        tags: ['account'],
        security: bearer,
        response: { 200: SignedUpUser, ...problems(unauthenticated) },
      },
    },
    async (request) => signedUpBody(authOf(request).account),
  )

  async function endSessionsIfAny(request: FastifyRequest<{ Body: Static<typeof LogoutBody> }>): Promise<void> {
    const tokens = { accessToken: bearerTokenOf(request), refreshToken: request.body.refresh_token }
    await logOutByEither(core, tokens, 'global', originOf(request))
  }
}

function signedUpBody(account: Account): Static<typeof SignedUpUser> {
  return { id: account.id, username: loginNameOf(account), email: account.email, is_active: account.isActive }
}

/** Here a name that is taken is a 400. */
function asAlreadyRegistered(error: unknown): never {
  if (error instanceof Problem && error.status === 409)
    throw new Problem('already_registered', error.errors ? { errors: error.errors } : {})
  throw error
}

function unlessUnauthorized(error: unknown): void {
  if (!(error instanceof Problem) || error.status !== 401) throw error
}

export default authSignup

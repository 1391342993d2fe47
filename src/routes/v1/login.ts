import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply } from 'fastify'
import { type Static, Type } from 'typebox'
import { logOutByEither } from '#src/features/sessions/logout.ts'
import { refresh } from '#src/features/sessions/rotation.ts'
import { logIn } from '#src/features/login/password.ts'
import type { TokenPair } from '#src/features/sessions/open.ts'
import { Problem } from '#src/problem.ts'
import { bearerTokenOf } from '#src/routes/authenticate.ts'
import type { ContractOptions } from '#src/routes/contract.ts'
import { RefreshTokenText } from '#src/routes/credentials.ts'
import {
  allowEmptyBody,
  bearer,
  formFirst,
  jsonFirst,
  loginRefusals,
  logoutRefusals,
  PasswordGrant,
  refreshRefusals,
  tokensBody,
} from '#src/routes/grants.ts'
import { limitLogins, limitRefreshes } from '#src/routes/limits.ts'
import { originOf } from '#src/routes/origin.ts'
import { problems } from '#src/routes/problems.ts'
import { refreshCookie, TransportHeader } from '#src/routes/refresh-cookie.ts'
import { named, NoContent, ref, Tokens } from '#src/routes/schemas.ts'

const RefreshGrant = named('RefreshGrant', { refresh_token: Type.Optional(RefreshTokenText) })
const LogoutRequest = named('LogoutRequest', {
  refresh_token: Type.Optional(RefreshTokenText),
  scope: Type.Optional(
    Type.Unsafe<'global' | 'local' | 'others'>({
      type: 'string',
      enum: ['global', 'local', 'others'],
      description: 'Every session (also when left out), the one of the token, or all the others.',
      examples: ['global'],
    }),
  ),
})
const refusedRefresh = ['refresh_token_missing', ...refreshRefusals, 'csrf_rejected'] as const
const refusedLogout = [...logoutRefusals, 'csrf_rejected'] as const
const login = { tags: ['login'], security: [] }

/** Logins, refreshes and logouts; the refresh token is in the body or in a cookie. */
const v1Login: FastifyPluginAsyncTypebox<ContractOptions> = async (app, { secureCookies }) => {
  const { core } = app
  const cookie = refreshCookie({
    prefix: app.prefix,
    secure: secureCookies,
    maxAge: core.lifetimes.refreshTokenSeconds,
  })

  app.post(
    '/token',
    {
      config: { access: 'public', oauthErrors: true },
      preHandler: limitLogins(app),
      schema: {
        operationId: 'logIn',
        summary: 'Log in with a password',
        description: 'Starts a session: a short-lived access token and a single-use refresh token.',
        ...login,
        consumes: formFirst,
        headers: TransportHeader,
        body: PasswordGrant,
        response: {
          200: ref(Tokens),
          ...problems([400, ...loginRefusals, 413, 415], 'application/json'),
        },
      },
    },
    async (request, reply) => {
      const { username, password } = request.body
      return sendTokens(await logIn(core, username, password, originOf(request)), cookie.isWanted(request), reply)
    },
  )

  app.post(
    '/refresh',
    {
      config: { access: 'public', oauthErrors: true },
      preValidation: allowEmptyBody,
      preHandler: limitRefreshes(app),
      schema: {
        operationId: 'refreshTokens',
        summary: 'Exchange a refresh token for new tokens',
        description: 'A retry with the same token within the grace window gets the same new token again.',
        ...login,
        consumes: jsonFirst,
        headers: TransportHeader,
        body: RefreshGrant,
        response: { 200: ref(Tokens), ...problems([400, ...refusedRefresh, 413, 415], 'application/json') },
      },
    },
    async (request, reply) => {
      const inBody = request.body.refresh_token
      const token = inBody ?? cookie.read(request)
      if (token === undefined) throw new Problem('refresh_token_missing')
      try {
        return sendTokens(await refresh(core, token, originOf(request)), inBody === undefined, reply)
      } catch (error) {
        if (inBody === undefined && isOver(error)) cookie.clear(reply)
        throw error
      }
    },
  )

  app.post(
    '/logout',
    {
      config: { access: 'public' },
      preValidation: allowEmptyBody,
      schema: {
        operationId: 'logOut',
        summary: 'End sessions',
        description: 'By the access token or, when that has expired, by a refresh token in the body or the cookie.',
        tags: ['login'],
        security: [...bearer, {}],
        consumes: jsonFirst,
        headers: TransportHeader,
        body: LogoutRequest,
        response: { 204: NoContent, ...problems([400, ...refusedLogout, 413, 415]) },
      },
    },
    async (request, reply) => {
      const { scope = 'global' } = request.body
      const accessToken = bearerTokenOf(request)
      const refreshToken = request.body.refresh_token ?? (cookie.isWanted(request) ? cookie.read(request) : undefined)
      const clear = () => cookie.isSent(request) && cookie.clear(reply)
      try {
        await logOutByEither(core, { accessToken, refreshToken }, scope, originOf(request))
      } catch (error) {
        if (isOver(error)) clear()
        throw error
      }
      if (scope !== 'others') clear()
      return reply.code(204).send(null)
    },
  )

  function sendTokens(pair: TokenPair, inCookie: boolean, reply: FastifyReply): Static<typeof Tokens> {
    if (!inCookie) return tokensBody(pair)
    cookie.write(reply, pair.refreshToken)
    const { refresh_token: _, ...body } = tokensBody(pair)
    return { ...body, session_id: pair.sessionId, generation: pair.generation }
  }
}

/** Whether the session of the cookie cannot come back; a newer token or a fault says nothing of the kind. */
function isOver(error: unknown): boolean {
  return error instanceof Problem && error.status === 401 && error.code !== 'refresh_token_superseded'
}

export default v1Login

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import { refresh } from '#src/features/sessions/rotation.ts'
import { logIn } from '#src/features/login/password.ts'
import type { TokenPair } from '#src/features/sessions/open.ts'
import { LoginName, Password, RefreshTokenText } from '#src/routes/credentials.ts'
import { originOf } from '#src/routes/origin.ts'
import { problems } from '#src/routes/problems.ts'
import { named, ref, Tokens } from '#src/routes/schemas.ts'
import { limitLogins, limitRefreshes } from './limits.ts'

/** What FastAPI's form and Swagger UI send along. */
const Unused = Type.Optional(Type.String({ maxLength: 1024, description: 'Taken and not used.', examples: [''] }))
export const PasswordGrant = named('PasswordGrant', {
  username: LoginName,
  password: Password,
  // RFC 6749 §3.2: without a value it counts as left out; an enumeration with an empty name breaks generated clients.
  grant_type: Type.Optional(
    Type.String({ pattern: '^(password)?$', description: '`password`.', examples: ['password'] }),
  ),
  scope: Unused,
  client_id: Unused,
  client_secret: Unused,
})
const RefreshGrant = named('RequiredRefreshGrant', { refresh_token: RefreshTokenText })
/** The body of a logout may be left out. */
export const LogoutBody = named('LogoutByToken', { refresh_token: Type.Optional(RefreshTokenText) })
/** A reply that says only that it is done. */
export const messageOf = (title: string, text: string) =>
  named(title, { message: Type.String({ examples: [text] }) }, { description: 'Done.' })

/** Why an access token is refused. */
export const unauthenticated = [
  'malformed_authorization',
  'token_missing',
  'token_invalid',
  'token_expired',
  'session_revoked',
  'session_expired',
  'user_disabled',
] as const

/** Why a refresh token is refused. */
export const refreshRefusals = [
  'refresh_token_invalid',
  'refresh_token_expired',
  'refresh_token_revoked',
  'refresh_token_superseded',
  'refresh_token_reused',
  'refresh_token_user_disabled',
] as const
/** Why a logout by either token is refused. */
export const logoutRefusals = [
  'malformed_authorization',
  'token_missing',
  'token_invalid',
  'token_expired',
  'refresh_token_invalid',
  'refresh_token_expired',
  'refresh_token_reused',
  'refresh_token_user_disabled',
] as const

export const formFirst = ['application/x-www-form-urlencoded', 'application/json']
export const jsonFirst = formFirst.toReversed()
export const bearer = [{ OAuth2PasswordBearer: [] }]

/** Why a login is refused. */
export const loginRefusals = ['credentials_invalid', 'email_not_verified'] as const

type App = Parameters<FastifyPluginAsyncTypebox>[0]

/** Serves a login as the contracts have it that know no cookies. */
export function serveLogin(app: App, path: string, operationId: string, consumes = formFirst): void {
  app.post(
    path,
    {
      config: { access: 'public', oauthErrors: true },
      preHandler: limitLogins(app),
      schema: {
        operationId,
        summary: 'Log in with a password',
        description: 'Starts a session: a short-lived access token and a single-use refresh token.',
        tags: ['login'],
        security: [],
        consumes,
        body: PasswordGrant,
        response: { 200: ref(Tokens), ...problems([400, ...loginRefusals, 413, 415], 'application/json') },
      },
    },
    async (request) => {
      const { username, password } = request.body
      return tokensBody(await logIn(app.core, username, password, originOf(request)))
    },
  )
}

/** Serves `/refresh` as the contracts have it that know no cookies. */
export function serveRefresh(app: App, operationId: string): void {
  app.post(
    '/refresh',
    {
      config: { access: 'public', oauthErrors: true },
      preHandler: limitRefreshes(app),
      schema: {
        operationId,
        summary: 'Exchange a refresh token for new tokens',
        description: 'A retry with the same token within the grace window gets the same new token again.',
        tags: ['login'],
        security: [],
        consumes: jsonFirst,
        body: RefreshGrant,
        response: { 200: ref(Tokens), ...problems([400, ...refreshRefusals, 413, 415], 'application/json') },
      },
    },
    async (request) => tokensBody(await refresh(app.core, request.body.refresh_token, originOf(request))),
  )
}

/** A token reply (RFC 6749 §5.1). */
export function tokensBody(pair: TokenPair): Static<typeof Tokens> {
  return {
    access_token: pair.accessToken,
    refresh_token: pair.refreshToken,
    token_type: 'bearer',
    expires_in: pair.expiresIn,
  }
}

/** Route hook: no body is an empty one. */
export async function allowEmptyBody(request: FastifyRequest): Promise<void> {
  request.body ??= {}
}

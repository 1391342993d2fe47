import type { FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import type { TokenPair } from '#src/core/sessions.ts'
import { LoginName, named, Password, RefreshTokenText, type Tokens } from './fields.ts'

/** What FastAPI's form and Swagger UI send along. */
const Unused = Type.Optional(Type.String({ maxLength: 1024, description: 'Taken and not used.', examples: [''] }))
export const PasswordGrant = named('PasswordGrant', {
  username: LoginName,
  password: Password,
  grant_type: Type.Optional(Type.String({ enum: ['password', ''], examples: ['password'] })),
  scope: Unused,
  client_id: Unused,
  client_secret: Unused,
})
export const RefreshGrant = named('RequiredRefreshGrant', { refresh_token: RefreshTokenText })
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

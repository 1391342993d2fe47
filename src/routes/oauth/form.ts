import { Type } from 'typebox'
import { named } from '#src/routes/schemas.ts'

/** How a client may authenticate in the form (RFC 6749 §2.3.1). */
export const ClientFields = {
  client_id: Type.Optional(Type.String({ maxLength: 1024, examples: ['app'] })),
  client_secret: Type.Optional(Type.String({ maxLength: 1024, examples: [''] })),
}
/** What is revoked, or asked about. */
export const TokenInQuestion = named('OAuthTokenInQuestion', {
  token: Type.String({ maxLength: 8192, description: 'An access or a refresh token.', examples: ['lkr_…'] }),
  token_type_hint: Type.Optional(Type.String({ maxLength: 100, examples: ['refresh_token'] })),
  ...ClientFields,
})

/** What the document says of each endpoint. */
export const form = { consumes: ['application/x-www-form-urlencoded'], tags: ['oauth'], security: [] }
/** Of a route that anybody may ask. */
export const open = { config: { access: 'public', oauthErrors: true } } as const
/** Of a route that backends ask about the tokens of others. */
export const forBackends = { config: { ...open.config, checksTokens: true } } as const

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest, preValidationHookHandler } from 'fastify'
import { type Static, Type } from 'typebox'
import { introspect, revoke } from '#src/features/tokens/introspection.ts'
import { refresh } from '#src/features/sessions/rotation.ts'
import { logIn } from '#src/features/login/password.ts'
import type { TokenPair } from '#src/features/sessions/open.ts'
import { firstPartyClient } from '#src/features/tokens/tokens.ts'
import { Problem } from '#src/problem.ts'
import { LoginName, named, originOf, Password, problems, ref, Tokens } from '#src/routes/fields.ts'
import type { ContractOptions } from '#src/routes/index.ts'
import { tokensBody } from '#src/routes/grants.ts'
import { limitLogins, limitRefreshes } from '#src/routes/limits.ts'
import { authenticateClient, requireClient } from './clients.ts'

const ClientFields = {
  client_id: Type.Optional(Type.String({ maxLength: 1024, examples: ['app'] })),
  client_secret: Type.Optional(Type.String({ maxLength: 1024, examples: [''] })),
}
const TokenRequest = named('OAuthTokenRequest', {
  grant_type: Type.String({ maxLength: 100, description: '`password` or `refresh_token`.', examples: ['password'] }),
  username: Type.Optional(LoginName),
  password: Type.Optional(Password),
  refresh_token: Type.Optional(Type.String({ maxLength: 512, examples: ['lkr_…'] })),
  scope: Type.Optional(Type.String({ maxLength: 1024, examples: [''] })),
  ...ClientFields,
})
const TokenInQuestion = named('OAuthTokenInQuestion', {
  token: Type.String({ maxLength: 8192, description: 'An access or a refresh token.', examples: ['lkr_…'] }),
  token_type_hint: Type.Optional(Type.String({ maxLength: 100, examples: ['refresh_token'] })),
  ...ClientFields,
})
const Introspection = named('Introspection', {
  active: Type.Boolean({ examples: [true] }),
  sub: Type.Optional(Type.String({ examples: ['1'] })),
  client_id: Type.Optional(Type.String({ examples: ['latchkey'] })),
  username: Type.Optional(Type.String({ examples: ['ada'] })),
  token_type: Type.Optional(Type.String({ examples: ['Bearer'] })),
  iss: Type.Optional(Type.String({ examples: ['https://auth.example.com'] })),
  aud: Type.Optional(Type.String({ examples: ['latchkey'] })),
  iat: Type.Optional(Type.Integer({ examples: [1795240203] })),
  exp: Type.Optional(Type.Integer({ examples: [1795242003] })),
  jti: Type.Optional(Type.String({ examples: ['82542bf0-4a4a-4d2d-8a85-2c9cb87c59d9'] })),
  sid: Type.Optional(Type.String({ examples: ['019a3b92-ad1f-751a-89a7-4998737bc2e6'] })),
  roles: Type.Optional(Type.Array(Type.String(), { examples: [['user']] })),
})

const form = { consumes: ['application/x-www-form-urlencoded'], tags: ['oauth'], security: [] }
const open = { config: { access: 'public', oauthErrors: true } } as const
const forBackends = { config: { ...open.config, checksTokens: true } } as const

/** OAuth 2.0 by the book, for a first party: RFC 6749 (password, refresh_token), 7009, 7662. */
const oauth: FastifyPluginAsyncTypebox<ContractOptions> = async (app, { issuer, audience, oauthClients }) => {
  const { core } = app
  const limits = { logins: limitLogins(app), refreshes: limitRefreshes(app) }
  app.removeContentTypeParser('application/json')
  app.addContentTypeParser('application/json', (_request, _body, done) =>
    done(
      new Problem('media_type_unsupported', { detail: 'The body must be a form (application/x-www-form-urlencoded).' }),
    ),
  )
  app.addHook('preValidation', leaveOutEmpty)

  app.post(
    '/oauth/token',
    {
      ...open,
      preHandler: [
        // Each grant under the limits of what it does.
        async function limitGrant(request, reply) {
          const isRefresh = fieldsOf(request).grant_type === 'refresh_token'
          await (isRefresh ? limits.refreshes : limits.logins).call(app, request, reply)
        },
      ],
      schema: {
        operationId: 'oauthToken',
        summary: 'Token endpoint (RFC 6749 §3.2)',
        description: 'The grants `password` and `refresh_token`; refusals are 400 as RFC 6749 §5.2 wants.',
        ...form,
        body: TokenRequest,
        response: { 200: ref(Tokens), ...problems([400, 401, 413, 415], 'application/json') },
      },
    },
    async (request) => {
      authenticateClient(request, oauthClients)
      return tokensBody(await grant(request))
    },
  )

  app.post(
    '/oauth/revoke',
    {
      ...forBackends,
      schema: {
        operationId: 'oauthRevoke',
        summary: 'Revocation (RFC 7009): ends the session of the token',
        description: 'Answers 200 for an unknown token too.',
        ...form,
        body: TokenInQuestion,
        response: {
          200: Type.Object({}, { description: 'Revoked, or never known.' }),
          ...problems([400, 401, 413, 415], 'application/json'),
        },
      },
    },
    async (request) => {
      authenticateClient(request, oauthClients)
      await revoke(core, request.body.token, originOf(request))
      return {}
    },
  )

  app.post(
    '/oauth/introspect',
    {
      ...forBackends,
      schema: {
        operationId: 'oauthIntrospect',
        summary: 'Introspection (RFC 7662), for the clients of OAUTH_CLIENTS',
        description: 'Not active: unknown, expired, spent, or of a session or user that has ended.',
        ...form,
        body: TokenInQuestion,
        response: { 200: Introspection, ...problems([400, 401, 413, 415], 'application/json') },
      },
    },
    async (request) => {
      requireClient(request, oauthClients)
      const state = await introspect(core, request.body.token)
      if (!state.active) return { active: false }
      const { account, claims, tokenType, sessionId, expiresAt } = state
      return {
        active: true,
        sub: String(account.id),
        client_id: firstPartyClient,
        username: account.username ?? account.email ?? '',
        token_type: tokenType,
        iss: issuer,
        aud: audience,
        ...(claims ? { iat: claims.issuedAt, jti: claims.tokenId } : {}),
        exp: expiresAt,
        sid: sessionId,
        roles: account.roles,
      }
    },
  )

  async function grant(request: FastifyRequest): Promise<TokenPair> {
    const { grant_type: type, username, password, refresh_token: refreshToken } = fieldsOf(request)
    if (type === 'password') {
      if (username === undefined || password === undefined)
        throw missing(username === undefined ? 'username' : 'password')
      return asGrant(logIn(core, username, password, originOf(request)))
    }
    if (type === 'refresh_token') {
      if (refreshToken === undefined) throw missing('refresh_token')
      return asGrant(refresh(core, refreshToken, originOf(request)))
    }
    throw new Problem('grant_type_unsupported')
  }
}

type Fields = Partial<Static<typeof TokenRequest>>
const fieldsOf = ({ body }: FastifyRequest): Fields => body ?? {}

/** RFC 6749 §5.2: what the token endpoint refuses is a 400 `invalid_grant`; the code still says why. */
async function asGrant(tokens: Promise<TokenPair>): Promise<TokenPair> {
  try {
    return await tokens
  } catch (error) {
    if (!(error instanceof Problem) || (error.status !== 401 && error.status !== 403)) throw error
    throw new Problem(error.code, { status: 400, error: 'invalid_grant', detail: error.detail, cause: error.cause })
  }
}

function missing(name: string): Problem {
  return new Problem('invalid_request', {
    detail: `${name}: is required`,
    errors: [{ pointer: `/${name}`, detail: 'is required' }],
  })
}

/** RFC 6749 §3.2: a parameter without a value counts as left out. */
const leaveOutEmpty: preValidationHookHandler = ({ body }, _reply, done) => {
  for (const [name, value] of Object.entries(body ?? {})) if (value === '') Reflect.deleteProperty(body as object, name)
  done()
}

export default oauth

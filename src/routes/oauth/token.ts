import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import { refresh } from '#src/features/sessions/rotation.ts'
import { logIn } from '#src/features/login/password.ts'
import type { TokenPair } from '#src/features/sessions/open.ts'
import { Problem } from '#src/problem.ts'
import type { ContractOptions } from '#src/routes/contract.ts'
import { LoginName, Password } from '#src/routes/credentials.ts'
import { tokensBody } from '#src/routes/grants.ts'
import { limitLogins, limitRefreshes } from '#src/routes/limits.ts'
import { originOf } from '#src/routes/origin.ts'
import { problems } from '#src/routes/problems.ts'
import { named, ref, Tokens } from '#src/routes/schemas.ts'
import { authenticateClient } from './clients.ts'
import { ClientFields, form, open } from './form.ts'

const TokenRequest = named('OAuthTokenRequest', {
  grant_type: Type.String({ maxLength: 100, description: '`password` or `refresh_token`.', examples: ['password'] }),
  username: Type.Optional(LoginName),
  password: Type.Optional(Password),
  refresh_token: Type.Optional(Type.String({ maxLength: 512, examples: ['lkr_…'] })),
  scope: Type.Optional(Type.String({ maxLength: 1024, examples: [''] })),
  ...ClientFields,
})

/** The token endpoint (RFC 6749 §3.2) with the grants `password` and `refresh_token`. */
const oauthToken: FastifyPluginAsyncTypebox<ContractOptions> = async (app, { oauthClients }) => {
  const { core } = app
  const limits = { logins: limitLogins(app), refreshes: limitRefreshes(app) }

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

export default oauthToken

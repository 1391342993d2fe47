import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply } from 'fastify'
import { type Static, Type } from 'typebox'
import { changeProfile, deleteAccount, register, replacePassword } from '#src/core/accounts.ts'
import { logOutByEither } from '#src/core/logout.ts'
import { refresh } from '#src/core/rotation.ts'
import { endOneSession, listSessions, logIn, type TokenPair } from '#src/core/sessions.ts'
import { Problem } from '#src/problem.ts'
import { authenticate, authOf, bearerTokenOf } from './authenticate.ts'
import {
  Email,
  FullName,
  NewPassword,
  NoContent,
  Nullable,
  originOf,
  Password,
  problems,
  ref,
  RefreshTokenText,
  Session,
  Tokens,
  User,
  userBody,
  Username,
} from './fields.ts'
import { allowEmptyBody, bearer, formFirst, jsonFirst, PasswordGrant, tokensBody } from './grants.ts'
import type { ContractOptions } from './index.ts'
import { refreshCookie, TransportHeader } from './refresh-cookie.ts'

const Registration = Type.Object({
  email: Email,
  password: NewPassword,
  username: Type.Optional(Nullable(Username)),
  full_name: Type.Optional(Nullable(FullName)),
})
const RefreshGrant = Type.Object({ refresh_token: Type.Optional(RefreshTokenText) })
const Logout = Type.Object({
  refresh_token: Type.Optional(RefreshTokenText),
  scope: Type.Optional(
    Type.Unsafe<'global' | 'local' | 'others'>({ type: 'string', enum: ['global', 'local', 'others'] }),
  ),
})
const ProfileChange = Type.Object(
  { full_name: Type.Optional(Nullable(FullName)), username: Type.Optional(Username) },
  { additionalProperties: false, minProperties: 1 },
)
const PasswordChange = Type.Object({ current_password: Password, new_password: NewPassword })
const PasswordConfirmation = Type.Object({ password: Password })
const SessionId = Type.Object({
  id: Type.String({
    pattern: '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$',
    examples: ['019a3b92-ad1f-751a-89a7-4998737bc2e6'],
  }),
})
const Validity = Type.Object({
  valid: Type.Boolean({ examples: [true] }),
  username: Nullable(Type.String({ examples: ['ada'] })),
  email: Nullable(Type.String({ examples: ['ada@example.com'] })),
  user_id: Type.Integer({ examples: [1] }),
  roles: Type.Array(Type.String({ examples: ['user'] })),
  session_id: Type.String({ examples: ['019a3b92-ad1f-751a-89a7-4998737bc2e6'] }),
  expires_at: Type.String({ format: 'date-time', examples: ['2026-11-21T09:30:00.000Z'] }),
})
const Status = Type.Object({ status: Type.String({ const: 'ok', examples: ['ok'] }) })

const account = { tags: ['account'], security: bearer }
const login = { tags: ['login'], security: [] }

/** The canonical contract. */
const kanban: FastifyPluginAsyncTypebox<ContractOptions> = async (app, { secureCookies }) => {
  const { core, limit } = app
  const cookie = refreshCookie({
    paths: [`${app.prefix}/refresh`, `${app.prefix}/logout`],
    secure: secureCookies,
    maxAge: core.lifetimes.refreshTokenSeconds,
  })
  const open = { config: { access: 'public' } } as const

  app.post(
    '/users/',
    {
      ...open,
      preHandler: limit.registration,
      schema: {
        operationId: 'registerUser',
        summary: 'Register a new user',
        ...login,
        body: Registration,
        response: { 201: ref(User), ...problems([400, 409, 413, 415]) },
      },
    },
    async (request, reply) => {
      const { email, password, username = null, full_name: fullName = null } = request.body
      const created = await register(core, { email, username, fullName, password }, originOf(request))
      return reply.code(201).send(userBody(created))
    },
  )

  app.post(
    '/token',
    {
      ...open,
      config: { access: 'public', oauthErrors: true },
      preHandler: limit.login,
      schema: {
        operationId: 'logIn',
        summary: 'Log in with a password',
        ...login,
        consumes: formFirst,
        headers: TransportHeader,
        body: PasswordGrant,
        response: { 200: ref(Tokens), ...problems([400, 401, 413, 415], 'application/json') },
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
      preHandler: limit.refresh,
      schema: {
        operationId: 'refreshTokens',
        summary: 'Exchange a refresh token for new tokens',
        description: 'A retry with the same token within the grace window gets the same new token again.',
        ...login,
        consumes: jsonFirst,
        headers: TransportHeader,
        body: RefreshGrant,
        response: { 200: ref(Tokens), ...problems([400, 401, 403, 413, 415], 'application/json') },
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
      ...open,
      preValidation: allowEmptyBody,
      schema: {
        operationId: 'logOut',
        summary: 'End sessions',
        description: 'By the access token or, when that has expired, by a refresh token in the body or the cookie.',
        tags: ['login'],
        security: [...bearer, {}],
        consumes: jsonFirst,
        headers: TransportHeader,
        body: Logout,
        response: { 204: NoContent, ...problems([400, 401, 403, 413, 415]) },
      },
    },
    async (request, reply) => {
      const { scope = 'global' } = request.body
      const accessToken = bearerTokenOf(request)
      const refreshToken = request.body.refresh_token ?? cookie.read(request)
      await logOutByEither(core, { accessToken, refreshToken }, scope, originOf(request))
      if (scope !== 'others') cookie.clear(reply)
      return reply.code(204).send(null)
    },
  )

  app.get(
    '/me',
    {
      onRequest: authenticate,
      schema: {
        operationId: 'getMe',
        summary: 'The current user',
        ...account,
        response: { 200: ref(User), ...problems([400, 401]) },
      },
    },
    async (request) => userBody(authOf(request).account),
  )

  app.patch(
    '/me',
    {
      onRequest: authenticate,
      schema: {
        operationId: 'updateMe',
        summary: 'Change name or username',
        ...account,
        body: ProfileChange,
        response: { 200: ref(User), ...problems([400, 401, 409, 413, 415]) },
      },
    },
    async (request) => {
      const { full_name: fullName, username } = request.body
      return userBody(await changeProfile(core, authOf(request).account.id, { fullName, username }, originOf(request)))
    },
  )

  app.post(
    '/me/password',
    {
      onRequest: authenticate,
      preHandler: limit.password,
      schema: {
        operationId: 'changePassword',
        summary: 'Change the password and end the other sessions',
        ...account,
        body: PasswordChange,
        response: { 204: NoContent, ...problems([400, 401, 413, 415]) },
      },
    },
    async (request, reply) => {
      const { current_password: currentPassword, new_password: newPassword } = request.body
      await replacePassword(core, authOf(request), { currentPassword, newPassword }, originOf(request))
      return reply.code(204).send(null)
    },
  )

  app.delete(
    '/me',
    {
      onRequest: authenticate,
      preHandler: limit.password,
      schema: {
        operationId: 'deleteMe',
        summary: 'Delete the account and everything of it',
        ...account,
        body: PasswordConfirmation,
        response: { 204: NoContent, ...problems([400, 401, 413, 415]) },
      },
    },
    async (request, reply) => {
      await deleteAccount(core, authOf(request).account, request.body.password, originOf(request))
      cookie.clear(reply)
      return reply.code(204).send(null)
    },
  )

  app.get(
    '/me/sessions',
    {
      onRequest: authenticate,
      schema: {
        operationId: 'listSessions',
        summary: 'The logins that still stand',
        ...account,
        response: { 200: Type.Array(ref(Session)), ...problems([400, 401]) },
      },
    },
    async (request) => {
      const auth = authOf(request)
      const sessions = await listSessions(core, auth.account.id)
      return sessions.map((session) => ({
        id: session.id,
        created_at: session.createdAt.toISOString(),
        last_used_at: session.lastUsedAt.toISOString(),
        expires_at: session.expiresAt.toISOString(),
        ip: session.ip,
        user_agent: session.userAgent,
        current: session.id === auth.sessionId,
      }))
    },
  )

  app.delete(
    '/me/sessions/:id',
    {
      onRequest: authenticate,
      schema: {
        operationId: 'endSession',
        summary: 'End one login',
        ...account,
        params: SessionId,
        response: { 204: NoContent, ...problems([400, 401, 404]) },
      },
    },
    async (request, reply) => {
      const session = {
        userId: authOf(request).account.id,
        sessionId: request.params.id,
        reason: 'session_ended',
      } as const
      if (!(await endOneSession(core, session, originOf(request)))) throw new Problem('not_found')
      return reply.code(204).send(null)
    },
  )

  app.post(
    '/validate',
    {
      onRequest: authenticate,
      schema: {
        operationId: 'validateToken',
        summary: 'Check an access token and its session',
        ...account,
        response: { 200: Validity, ...problems([400, 401]) },
      },
    },
    async (request) => {
      const { account: user, sessionId, expiresAt } = authOf(request)
      return {
        valid: true,
        username: user.username,
        email: user.email,
        user_id: user.id,
        roles: user.roles,
        session_id: sessionId,
        expires_at: new Date(expiresAt * 1000).toISOString(),
      }
    },
  )

  app.get(
    '/health',
    {
      ...open,
      logLevel: 'warn',
      schema: {
        operationId: 'getApiHealth',
        summary: 'Alive',
        tags: ['operation'],
        security: [],
        response: { 200: Status, ...problems([]) },
      },
    },
    async () => ({ status: 'ok' as const }),
  )

  function sendTokens(pair: TokenPair, inCookie: boolean, reply: FastifyReply): Static<typeof Tokens> {
    if (!inCookie) return tokensBody(pair)
    cookie.write(reply, pair.refreshToken)
    const { refresh_token: _, ...body } = tokensBody(pair)
    return body
  }
}

/** Whether the session of the cookie cannot come back; a newer token or a fault says nothing of the kind. */
function isOver(error: unknown): boolean {
  return error instanceof Problem && error.status === 401 && error.code !== 'refresh_token_superseded'
}

export default kanban

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
  Moment,
  named,
  NewPassword,
  NoContent,
  Nullable,
  originOf,
  Password,
  problems,
  ref,
  RefreshTokenText,
  Roles,
  Session,
  SessionIdText,
  Status,
  Tokens,
  User,
  userBody,
  Username,
} from './fields.ts'
import {
  allowEmptyBody,
  bearer,
  formFirst,
  jsonFirst,
  logoutRefusals,
  PasswordGrant,
  refreshRefusals,
  tokensBody,
  unauthenticated,
} from './grants.ts'
import type { ContractOptions } from './index.ts'
import { refreshCookie, TransportHeader } from './refresh-cookie.ts'

const Registration = named('Registration', {
  email: Email,
  password: NewPassword,
  username: Type.Optional(Nullable(Username)),
  full_name: Type.Optional(Nullable(FullName)),
})
const RefreshGrant = named('RefreshGrant', { refresh_token: Type.Optional(RefreshTokenText) })
const Logout = named('Logout', {
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
const ProfileChange = named(
  'ProfileChange',
  { full_name: Type.Optional(Nullable(FullName)), username: Type.Optional(Username) },
  { additionalProperties: false, minProperties: 1 },
)
const PasswordChange = named('PasswordChange', { current_password: Password, new_password: NewPassword })
const PasswordConfirmation = named('PasswordConfirmation', { password: Password })
const SessionId = Type.Object({
  id: Type.String({
    pattern: '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$',
    description: 'As in the list of sessions.',
    examples: ['019a3b92-ad1f-751a-89a7-4998737bc2e6'],
  }),
})
const Validity = named(
  'Validity',
  {
    valid: Type.Boolean({ examples: [true] }),
    username: User.properties.username,
    email: User.properties.email,
    user_id: User.properties.id,
    roles: Roles,
    session_id: SessionIdText,
    expires_at: Moment,
  },
  { description: 'What a valid access token stands for.' },
)

const refusedRefresh = ['refresh_token_missing', ...refreshRefusals, 'csrf_rejected'] as const
const refusedLogout = [...logoutRefusals, 'csrf_rejected'] as const
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
        description: 'The account can log in at once, by its e-mail address or its username.',
        ...login,
        body: Registration,
        response: {
          201: ref(User),
          ...problems([400, 'password_unsuitable', 'email_taken', 'username_taken', 413, 415]),
        },
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
        description: 'Starts a session: a short-lived access token and a single-use refresh token.',
        ...login,
        consumes: formFirst,
        headers: TransportHeader,
        body: PasswordGrant,
        response: {
          200: ref(Tokens),
          ...problems([400, 'credentials_invalid', 'email_not_verified', 413, 415], 'application/json'),
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
      preHandler: limit.refresh,
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
        response: { 204: NoContent, ...problems([400, ...refusedLogout, 413, 415]) },
      },
    },
    async (request, reply) => {
      const { scope = 'global' } = request.body
      const accessToken = bearerTokenOf(request)
      const refreshToken = request.body.refresh_token ?? (cookie.isWanted(request) ? cookie.read(request) : undefined)
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
        description: 'Whom the access token stands for.',
        ...account,
        response: { 200: ref(User), ...problems(unauthenticated) },
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
        description: 'Changes the fields that are sent; `full_name: null` takes the name away.',
        ...account,
        body: ProfileChange,
        response: { 200: ref(User), ...problems([400, ...unauthenticated, 'username_taken', 413, 415]) },
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
        description: 'Needs the current password. The session of this access token goes on.',
        ...account,
        body: PasswordChange,
        response: {
          204: NoContent,
          ...problems([400, 'password_unsuitable', 'password_incorrect', ...unauthenticated, 413, 415]),
        },
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
        description: 'Needs the password; cannot be undone.',
        ...account,
        body: PasswordConfirmation,
        response: { 204: NoContent, ...problems([400, 'password_incorrect', ...unauthenticated, 413, 415]) },
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
        description: 'One entry per login that is neither ended nor expired.',
        ...account,
        response: { 200: Type.Array(ref(Session), { description: 'The sessions.' }), ...problems(unauthenticated) },
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
        description: 'Its tokens are refused from now on. The session of this access token can be ended too.',
        ...account,
        params: SessionId,
        response: { 204: NoContent, ...problems([400, ...unauthenticated, 404]) },
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
        description: 'For other services: a token whose session has ended is refused although it has not expired.',
        ...account,
        response: { 200: Validity, ...problems(unauthenticated) },
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
        description: 'The process answers; says nothing of the database.',
        tags: ['operation'],
        security: [],
        response: { 200: Status, ...problems([400]) },
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

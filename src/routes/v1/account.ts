import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { changeProfile, deleteAccount, replacePassword } from '#src/features/accounts/accounts.ts'
import { endOneSession } from '#src/features/sessions/logout.ts'
import { listSessions } from '#src/features/sessions/sessions.ts'
import { Problem } from '#src/problem.ts'
import { authenticate, authOf } from '#src/routes/authenticate.ts'
import {
  FullName,
  named,
  NewPassword,
  NoContent,
  Nullable,
  originOf,
  Password,
  problems,
  ref,
  Session,
  User,
  userBody,
  Username,
} from '#src/routes/fields.ts'
import { bearer, unauthenticated } from '#src/routes/grants.ts'
import type { ContractOptions } from '#src/routes/index.ts'
import { limitConfirmations } from '#src/routes/limits.ts'
import { refreshCookie } from '#src/routes/refresh-cookie.ts'

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
const account = { tags: ['account'], security: bearer }

/** What the canonical contract lets users do with their own account. */
const kanbanAccount: FastifyPluginAsyncTypebox<ContractOptions> = async (app, { secureCookies }) => {
  const { core } = app
  const { refreshTokenSeconds: maxAge } = core.lifetimes
  const cookie = refreshCookie({ prefix: app.prefix, secure: secureCookies, maxAge })

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
      preHandler: limitConfirmations(app),
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
      preHandler: limitConfirmations(app),
      schema: {
        operationId: 'deleteMe',
        summary: 'Delete the account and everything of it',
        description: 'Needs the password; cannot be undone.',
        ...account,
        body: PasswordConfirmation,
        response: {
          204: NoContent,
          ...problems([400, 'password_incorrect', ...unauthenticated, 'last_admin', 413, 415]),
        },
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
}

export default kanbanAccount

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { changeProfile, deleteAccount, replacePassword } from '#src/features/accounts/accounts.ts'
import { FullName, Username } from '#src/features/accounts/names.ts'
import { userBody } from '#src/features/accounts/user-body.ts'
import { authenticate, authOf } from '#src/routes/authenticate.ts'
import type { ContractOptions } from '#src/routes/contract.ts'
import { NewPassword, Password } from '#src/routes/credentials.ts'
import { bearer, unauthenticated } from '#src/routes/grants.ts'
import { limitConfirmations } from '#src/routes/limits.ts'
import { originOf } from '#src/routes/origin.ts'
import { problems } from '#src/routes/problems.ts'
import { refreshCookie } from '#src/routes/refresh-cookie.ts'
import { named, NoContent, Nullable, ref, User } from '#src/routes/schemas.ts'

const ProfileChange = named(
  'ProfileChange',
  { full_name: Type.Optional(Nullable(FullName)), username: Type.Optional(Username) },
  { additionalProperties: false, minProperties: 1 },
)
const PasswordChange = named('PasswordChange', { current_password: Password, new_password: NewPassword })
const PasswordConfirmation = named('PasswordConfirmation', { password: Password })
const account = { tags: ['account'], security: bearer }

/** What users do with their own account. */
const v1Account: FastifyPluginAsyncTypebox<ContractOptions> = async (app, { secureCookies }) => {
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
}

export default v1Account

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { register } from '#src/features/accounts/accounts.ts'
import { Email, Username } from '#src/features/accounts/names.ts'
import { requestPasswordReset, resetPassword } from '#src/features/recovery/recovery.ts'
import type { ContractOptions } from '#src/routes/contract.ts'
import { NewPassword, OneTimeToken } from '#src/routes/credentials.ts'
import { messageOf, serveLogin } from '#src/routes/grants.ts'
import { limitForgotten, limitLinks, limitRegistrations } from '#src/routes/limits.ts'
import { originOf } from '#src/routes/origin.ts'
import { problems } from '#src/routes/problems.ts'
import { named } from '#src/routes/schemas.ts'

const Registration = named('AuthRegisterRegistration', { username: Username, email: Email, password: NewPassword })
const Registered = named('AuthRegisterRegistered', {
  message: Type.String({ examples: ['User registered successfully'] }),
  user: Type.String({ examples: ['ada'] }),
})
const ForgottenPassword = named('AuthRegisterForgottenPassword', { email: Email })
const PasswordReset = named('AuthRegisterPasswordReset', { new_password: NewPassword })
const ResetLink = Type.Object({ token: OneTimeToken })
const linkSent = 'If the address can be used, a link is on its way to it.'
const LinkSent = messageOf('AuthRegisterLinkSent', linkSent)
const PasswordSet = messageOf('AuthRegisterPasswordSet', 'Password reset successfully')

/** The contract of an auth service under `/auth` with form logins and a password reset by e-mail. */
const authRegister: FastifyPluginAsyncTypebox<ContractOptions> = async (app, { issuer }) => {
  const { core } = app
  const resetPage = `${new URL(issuer).pathname.replace(/\/$/, '')}/account/reset-password`

  app.post(
    '/register',
    {
      config: { access: 'public' },
      preHandler: limitRegistrations(app),
      schema: {
        operationId: 'authRegisterRegister',
        summary: 'Register a new user',
        description: 'The account can log in at once, by its e-mail address or its username.',
        tags: ['login'],
        security: [],
        body: Registration,
        response: {
          201: Registered,
          ...problems([400, 'password_unsuitable', 'email_taken', 'username_taken', 413, 415]),
        },
      },
    },
    async (request, reply) => {
      const { username, email, password } = request.body
      await register(core, { email, username, fullName: null, password }, originOf(request))
      return reply.code(201).send({ message: 'User registered successfully', user: username })
    },
  )

  serveLogin(app, '/login', 'authRegisterLogIn')

  app.post(
    '/forgot-password',
    {
      config: { access: 'public' },
      preHandler: limitForgotten(app),
      schema: {
        operationId: 'authRegisterForgotPassword',
        summary: 'Ask for a link to set a new password',
        description: 'The same answer for every address, whether it is known or not.',
        tags: ['account'],
        security: [],
        body: ForgottenPassword,
        response: { 200: LinkSent, ...problems([400, 413, 415]) },
      },
    },
    async (request) => {
      await requestPasswordReset(core, request.body.email, originOf(request))
      return { message: linkSent }
    },
  )

  app.get(
    '/reset-password/:token',
    {
      config: { access: 'public' },
      schema: {
        // Not in the OpenAPI document: a link for people, not a call.
        hide: true,
        operationId: 'authRegisterOpenResetLink',
        summary: 'Follow a link to the page that sets a new password',
        description: 'Uses nothing up, so that a mail scanner may follow it.',
        tags: ['account'],
        security: [],
        params: ResetLink,
        response: { 303: Type.Null({ description: 'To the page.' }), ...problems([400]) },
      },
    },
    async (request, reply) => reply.redirect(`${resetPage}#token=${encodeURIComponent(request.params.token)}`, 303),
  )

  app.post(
    '/reset-password/:token',
    {
      config: { access: 'public' },
      preHandler: limitLinks(app),
      schema: {
        operationId: 'authRegisterResetPassword',
        summary: 'Set a new password by a link',
        description:
          'Ends every session and confirms the address. A password that is refused leaves the link as it is.',
        tags: ['account'],
        security: [],
        params: ResetLink,
        body: PasswordReset,
        response: {
          200: PasswordSet,
          ...problems([400, 'one_time_token_invalid', 'password_unsuitable', 413, 415]),
        },
      },
    },
    async (request) => {
      const { params, body } = request
      await resetPassword(core, { token: params.token, newPassword: body.new_password }, originOf(request))
      return { message: 'Password reset successfully' }
    },
  )
}

export default authRegister

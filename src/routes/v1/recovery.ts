import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Email } from '#src/features/accounts/names.ts'
import {
  changeEmail,
  requestAddressConfirmation,
  requestPasswordReset,
  resetPassword,
  verifyEmail,
} from '#src/features/recovery/recovery.ts'
import { authenticate, authOf } from '#src/routes/authenticate.ts'
import type { ContractOptions } from '#src/routes/contract.ts'
import { NewPassword, OneTimeToken, Password } from '#src/routes/credentials.ts'
import { bearer, messageOf, unauthenticated } from '#src/routes/grants.ts'
import { limitConfirmations, limitForgotten, limitLinks } from '#src/routes/limits.ts'
import { originOf } from '#src/routes/origin.ts'
import { problems } from '#src/routes/problems.ts'
import { named, NoContent } from '#src/routes/schemas.ts'

const ForgottenPassword = named('ForgottenPassword', { email: Email })
const PasswordReset = named('PasswordReset', { token: OneTimeToken, new_password: NewPassword })
const EmailVerification = named('EmailVerification', { token: OneTimeToken })
const EmailChange = named('EmailChange', { email: Email, password: Password })

const message = 'If the address can be used, a link is on its way to it.'
const linkSent = messageOf('LinkSent', message)
const recovery = { tags: ['account'], security: [] }
const open = { config: { access: 'public' } } as const

/** What is done by links in mails. */
const v1Recovery: FastifyPluginAsyncTypebox<ContractOptions> = async (app) => {
  const { core } = app

  app.post(
    '/forgot-password',
    {
      ...open,
      preHandler: limitForgotten(app),
      schema: {
        operationId: 'forgotPassword',
        summary: 'Ask for a link to set a new password',
        description: 'The same answer for every address, whether it is known or not.',
        ...recovery,
        body: ForgottenPassword,
        response: { 202: linkSent, ...problems([400, 413, 415]) },
      },
    },
    async (request, reply) => {
      await requestPasswordReset(core, request.body.email, originOf(request))
      return reply.code(202).send({ message })
    },
  )

  app.post(
    '/reset-password',
    {
      ...open,
      preHandler: limitLinks(app),
      schema: {
        operationId: 'resetPassword',
        summary: 'Set a new password by a link',
        description:
          'Ends every session and confirms the address. A password that is refused leaves the link as it is.',
        ...recovery,
        body: PasswordReset,
        response: {
          204: NoContent,
          ...problems([400, 'one_time_token_invalid', 'password_unsuitable', 413, 415]),
        },
      },
    },
    async (request, reply) => {
      const { token, new_password: newPassword } = request.body
      await resetPassword(core, { token, newPassword }, originOf(request))
      return reply.code(204).send(null)
    },
  )

  app.post(
    '/verify-email',
    {
      ...open,
      preHandler: limitLinks(app),
      schema: {
        operationId: 'verifyEmail',
        summary: 'Confirm an e-mail address by a link',
        description: 'The address of the registration, or the new one of a change, which takes effect now.',
        ...recovery,
        body: EmailVerification,
        response: { 204: NoContent, ...problems([400, 'one_time_token_invalid', 413, 415]) },
      },
    },
    async (request, reply) => {
      await verifyEmail(core, request.body.token, originOf(request))
      return reply.code(204).send(null)
    },
  )

  app.post(
    '/me/email/verification',
    {
      onRequest: authenticate,
      schema: {
        operationId: 'requestVerification',
        summary: 'Ask for another link to confirm the address',
        description: 'At most one a minute is sent, and none to an address that is confirmed; the answer is the same.',
        tags: ['account'],
        security: bearer,
        response: { 202: linkSent, ...problems([400, ...unauthenticated]) },
      },
    },
    async (request, reply) => {
      await requestAddressConfirmation(core, authOf(request).account.id, originOf(request))
      return reply.code(202).send({ message })
    },
  )

  app.post(
    '/me/email',
    {
      onRequest: authenticate,
      preHandler: limitConfirmations(app),
      schema: {
        operationId: 'changeEmail',
        summary: 'Ask for another e-mail address',
        description: 'Takes effect when the link that goes to the new address is used; the old one is told.',
        tags: ['account'],
        security: bearer,
        body: EmailChange,
        response: { 202: linkSent, ...problems([400, 'password_incorrect', ...unauthenticated, 413, 415]) },
      },
    },
    async (request, reply) => {
      await changeEmail(core, authOf(request).account, request.body, originOf(request))
      return reply.code(202).send({ message })
    },
  )
}

export default v1Recovery

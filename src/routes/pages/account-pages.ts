import { readFileSync } from 'node:fs'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { resetPassword, verifyEmail } from '#src/features/recovery/recovery.ts'
import { NewPassword, OneTimeToken } from '#src/routes/credentials.ts'
import { limitLinks } from '#src/routes/limits.ts'
import { originOf } from '#src/routes/origin.ts'

const files = {
  '/account/reset-password': ['reset-password.html', 'text/html; charset=utf-8'],
  '/account/verify-email': ['verify-email.html', 'text/html; charset=utf-8'],
  '/account/account.css': ['account.css', 'text/css; charset=utf-8'],
  '/account/account.js': ['account.js', 'text/javascript; charset=utf-8'],
} as const
const policy =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

/** The pages that the links in mails lead to, and what they post to; whatever contracts are mounted. */
const accountPages: FastifyPluginAsyncTypebox = async (app) => {
  const options = { logLevel: 'warn', config: { access: 'public' }, schema: { hide: true } } as const
  for (const [path, [file, type]] of Object.entries(files)) {
    const content = readFileSync(new URL(`../../pages/${file}`, import.meta.url))
    app.get(path, options, async (_request, reply) =>
      reply.header('content-security-policy', policy).type(type).send(content),
    )
  }

  app.post(
    '/account/reset-password',
    {
      config: { access: 'public' },
      preHandler: limitLinks(app),
      schema: {
        hide: true,
        body: Type.Object({ token: OneTimeToken, new_password: NewPassword }),
        response: { 204: Type.Null() },
      },
    },
    async (request, reply) => {
      const { token, new_password: newPassword } = request.body
      await resetPassword(app.core, { token, newPassword }, originOf(request))
      return reply.code(204).send(null)
    },
  )
  app.post(
    '/account/verify-email',
    {
      config: { access: 'public' },
      preHandler: limitLinks(app),
      schema: { hide: true, body: Type.Object({ token: OneTimeToken }), response: { 204: Type.Null() } },
    },
    async (request, reply) => {
      await verifyEmail(app.core, request.body.token, originOf(request))
      return reply.code(204).send(null)
    },
  )
}

export default accountPages

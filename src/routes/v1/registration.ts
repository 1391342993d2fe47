import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { register } from '#src/features/accounts/accounts.ts'
import { Email, FullName, Username } from '#src/features/accounts/names.ts'
import { userBody } from '#src/features/accounts/user-body.ts'
import type { ContractOptions } from '#src/routes/contract.ts'
import { NewPassword } from '#src/routes/credentials.ts'
import { limitRegistrations } from '#src/routes/limits.ts'
import { originOf } from '#src/routes/origin.ts'
import { problems } from '#src/routes/problems.ts'
import { named, Nullable, ref, User } from '#src/routes/schemas.ts'

const Registration = named('Registration', {
  email: Email,
  password: NewPassword,
  username: Type.Optional(Nullable(Username)),
  full_name: Type.Optional(Nullable(FullName)),
})

/** New users. */
const v1Registration: FastifyPluginAsyncTypebox<ContractOptions> = async (app) => {
  const { core } = app

  app.post(
    '/users/',
    {
      config: { access: 'public' },
      preHandler: limitRegistrations(app),
      schema: {
        operationId: 'registerUser',
        summary: 'Register a new user',
        description: 'The account can log in at once, by its e-mail address or its username.',
        tags: ['login'],
        security: [],
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
}

export default v1Registration

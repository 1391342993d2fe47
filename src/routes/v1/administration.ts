import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import {
  type Actor,
  changeUser,
  findUser,
  listEvents,
  listUsers,
  logOutUser,
  removeUser,
} from '#src/features/accounts/administration.ts'
import { userBody } from '#src/features/accounts/user-body.ts'
import { authenticate, authOf, requireRole } from '#src/routes/authenticate.ts'
import type { ContractOptions } from '#src/routes/contract.ts'
import { bearer, unauthenticated } from '#src/routes/grants.ts'
import { originOf } from '#src/routes/origin.ts'
import { problems } from '#src/routes/problems.ts'
import { NoContent, ref, User } from '#src/routes/schemas.ts'
import { EventPage, eventBody } from './audit-events.ts'
import { Cursor, cursorOf, idOf } from './cursor.ts'
import { UserChange, UserId, userIdOf, UserPage, UserQuery } from './users.ts'

const forAdmins = [...unauthenticated, 'insufficient_scope'] as const

/** Users as administrators see and change them; the roles are those that the database knows at each request. */
const v1Administration: FastifyPluginAsyncTypebox<ContractOptions> = async (app) => {
  const { core } = app
  const administration = { tags: ['administration'], security: bearer }

  app.get(
    '/users',
    {
      onRequest: [authenticate, requireRole('admin')],
      schema: {
        operationId: 'listUsers',
        summary: 'Find users',
        description:
          'In the order of their ids, page by page. A page may be short, even empty, before the last one: go on while there is a `next_cursor`.',
        ...administration,
        querystring: UserQuery,
        response: { 200: UserPage, ...problems([400, ...forAdmins]) },
      },
    },
    async ({ query }) => {
      const { items, next } = await listUsers(core, {
        text: query.q,
        role: query.role,
        isActive: query.is_active === undefined ? undefined : query.is_active === 'true',
        after: query.cursor === undefined ? 0 : idOf('u', query.cursor),
        limit: Number(query.limit ?? 50),
      })
      return { items: items.map(userBody), next_cursor: next === undefined ? null : cursorOf('u', next) }
    },
  )

  app.get(
    '/users/:id',
    {
      onRequest: [authenticate, requireRole('admin')],
      schema: {
        operationId: 'getUser',
        summary: 'One user',
        description: 'As the database knows them now.',
        ...administration,
        params: UserId,
        response: { 200: ref(User), ...problems([400, ...forAdmins, 404]) },
      },
    },
    async ({ params }) => userBody(await findUser(core, userIdOf(params))),
  )

  app.patch(
    '/users/:id',
    {
      onRequest: [authenticate, requireRole('admin')],
      schema: {
        operationId: 'changeUser',
        summary: 'Change or disable a user',
        description:
          'Roles take effect at the next request; disabling ends every session; a new address has to be confirmed anew.',
        ...administration,
        params: UserId,
        body: UserChange,
        response: {
          200: ref(User),
          ...problems([400, ...forAdmins, 404, 'last_admin', 'email_taken', 'username_taken', 413, 415]),
        },
      },
    },
    async (request) => {
      const { full_name: fullName, is_active: isActive, ...rest } = request.body
      const change = { ...rest, fullName, isActive }
      return userBody(await changeUser(core, userIdOf(request.params), change, actorOf(request)))
    },
  )

  app.delete(
    '/users/:id',
    {
      onRequest: [authenticate, requireRole('admin')],
      schema: {
        operationId: 'deleteUser',
        summary: 'Delete a user and everything of them',
        description: 'One event of the audit trail tells that it happened.',
        ...administration,
        params: UserId,
        response: { 204: NoContent, ...problems([400, ...forAdmins, 404, 'last_admin']) },
      },
    },
    async (request, reply) => {
      await removeUser(core, userIdOf(request.params), actorOf(request))
      return reply.code(204).send(null)
    },
  )

  app.post(
    '/users/:id/logout',
    {
      onRequest: [authenticate, requireRole('admin')],
      schema: {
        operationId: 'logOutUser',
        summary: 'End every session of a user',
        description: 'The user can log in again.',
        ...administration,
        params: UserId,
        response: { 204: NoContent, ...problems([400, ...forAdmins, 404]) },
      },
    },
    async (request, reply) => {
      await logOutUser(core, userIdOf(request.params), actorOf(request))
      return reply.code(204).send(null)
    },
  )

  app.get(
    '/users/:id/events',
    {
      onRequest: [authenticate, requireRole('admin')],
      schema: {
        operationId: 'listUserEvents',
        summary: 'The audit trail of a user',
        description: 'Newest first, 50 to a page.',
        ...administration,
        params: UserId,
        querystring: Type.Object({ cursor: Type.Optional(Cursor) }),
        response: { 200: EventPage, ...problems([400, ...forAdmins, 404]) },
      },
    },
    async ({ params, query }) => {
      const before = query.cursor === undefined ? undefined : String(idOf('e', query.cursor))
      const { items, next } = await listEvents(core, userIdOf(params), before)
      return { items: items.map(eventBody), next_cursor: next === undefined ? null : cursorOf('e', next) }
    },
  )
}

function actorOf(request: FastifyRequest): Actor {
  return { ...originOf(request), actorId: authOf(request).account.id }
}

export default v1Administration

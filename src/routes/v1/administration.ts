import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import {
  type Actor,
  changeUser,
  findUser,
  listEvents,
  listUsers,
  logOutUser,
  removeUser,
} from '#src/features/accounts/administration.ts'
import type { EventRow } from '#src/features/accounts/administration.sql.ts'
import { invalidField, Problem } from '#src/problem.ts'
import { authenticate, authOf, requireRole } from '#src/routes/authenticate.ts'
import {
  Email,
  FullName,
  Moment,
  named,
  NoContent,
  Nullable,
  originOf,
  problems,
  ref,
  Role,
  SessionIdText,
  User,
  userBody,
  Username,
} from '#src/routes/fields.ts'
import { bearer, unauthenticated } from '#src/routes/grants.ts'
import type { ContractOptions } from '#src/routes/index.ts'

const Cursor = Type.String({ maxLength: 64, description: '`next_cursor` of the page before.', examples: ['dTo1MA'] })
const NextCursor = Nullable(Type.String({ description: 'Null on the last page.', examples: ['dTo1MA'] }))
const UserQuery = Type.Object({
  q: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 254,
      description: 'Part of the e-mail address, username or full name.',
      examples: ['ada'],
    }),
  ),
  role: Type.Optional(Role),
  is_active: Type.Optional(Type.String({ enum: ['true', 'false'], examples: ['true'] })),
  limit: Type.Optional(
    Type.String({
      pattern: '^(?:[1-9]\\d?|1\\d\\d|200)$',
      description: '1 to 200; 50 when left out.',
      examples: ['50'],
    }),
  ),
  cursor: Type.Optional(Cursor),
})
const UserId = Type.Object({ id: Type.String({ pattern: '^[1-9]\\d{0,9}$', examples: ['1'] }) })
const UserChange = named(
  'UserChange',
  {
    full_name: Type.Optional(Nullable(FullName)),
    username: Type.Optional(Username),
    email: Type.Optional(Email),
    roles: Type.Optional(Type.Array(Role, { maxItems: 16, uniqueItems: true, examples: [['user', 'admin']] })),
    is_active: Type.Optional(Type.Boolean({ examples: [true] })),
  },
  { additionalProperties: false, minProperties: 1 },
)
const userExample = Reflect.get(User, 'examples') as unknown[]
const UserPage = named('UserPage', {
  items: Type.Array(ref(User), { examples: [userExample] }),
  next_cursor: NextCursor,
})
const RoleNames = Type.Array(Type.String())
const Detail = Type.Partial(
  Type.Object({
    reason: Type.String(),
    fields: Type.Array(Type.String()),
    roles: Type.Object({ from: RoleNames, to: RoleNames }),
    is_active: Type.Boolean(),
    template: Type.String(),
    error: Type.String(),
    code: Type.String(),
    action: Type.String(),
    kid: Type.String(),
  }),
  { description: 'More about it: docs/audit.md says what the event of which type holds.' },
)
const Event = named('AuditEvent', {
  id: Type.String({ examples: ['17'] }),
  created_at: Moment,
  type: Type.String({ examples: ['user.updated'] }),
  actor_id: Nullable(
    Type.Integer({ description: 'Who did it; null for a command from the shell and for nobody known.', examples: [1] }),
  ),
  session_id: Nullable(SessionIdText),
  ip: Nullable(Type.String({ examples: ['192.0.2.1'] })),
  user_agent: Nullable(Type.String({ examples: ['Mozilla/5.0'] })),
  request_id: Nullable(Type.String({ examples: ['3f0c1c1e-6d0e-4a39-9a0b-0d1d2f6a9a57'] })),
  detail: Type.Unsafe<Static<typeof Detail> | null>({
    ...Detail,
    type: ['object', 'null'],
    examples: [{ fields: ['roles'] }],
  }),
})
const EventPage = named('AuditEventPage', {
  items: Type.Array(Event, { examples: [Reflect.get(Event, 'examples') as unknown[]] }),
  next_cursor: NextCursor,
})

const forAdmins = [...unauthenticated, 'insufficient_scope'] as const

/** Users as administrators see and change them; the roles are those that the database knows at each request. */
const kanbanAdmin: FastifyPluginAsyncTypebox<ContractOptions> = async (app) => {
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

const largestId = 2 ** 31 - 1

/** An id beyond the column's range is nobody's. */
function userIdOf({ id }: Static<typeof UserId>): number {
  if (Number(id) > largestId) throw new Problem('not_found')
  return Number(id)
}

function cursorOf(list: 'u' | 'e', id: number | string): string {
  return Buffer.from(`${list}:${id}`).toString('base64url')
}

function idOf(list: 'u' | 'e', cursor: string): number {
  const id = Number(/^[ue]:(\d{1,15})$/.exec(Buffer.from(cursor, 'base64url').toString('latin1'))?.[1])
  const isOurs = Number.isSafeInteger(id) && cursor === cursorOf(list, id) && (list === 'e' || id <= largestId)
  if (!isOurs) throw invalidField('/cursor', 'is not a cursor of this list')
  return id
}

function actorOf(request: FastifyRequest): Actor {
  return { ...originOf(request), actorId: authOf(request).account.id }
}

function eventBody(event: EventRow): Static<typeof Event> {
  return {
    id: event.id,
    created_at: event.createdAt.toISOString(),
    type: event.type,
    actor_id: event.actorId,
    session_id: event.sessionId,
    ip: event.ip,
    user_agent: event.userAgent,
    request_id: event.requestId,
    detail: event.detail,
  }
}

export default kanbanAdmin

import { type Static, Type } from 'typebox'
import type { EventRow } from '#src/features/accounts/administration.sql.ts'
import { Moment, named, Nullable, SessionIdText } from '#src/routes/schemas.ts'
import { NextCursor } from './cursor.ts'

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
export const EventPage = named('AuditEventPage', {
  items: Type.Array(Event, { examples: [Reflect.get(Event, 'examples') as unknown[]] }),
  next_cursor: NextCursor,
})

/** An event of the audit trail as administrators see it. */
export function eventBody(event: EventRow): Static<typeof Event> {
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

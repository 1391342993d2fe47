import { type SQL, sql } from 'drizzle-orm/sql'
import { type Parameters, statement } from '#src/db/statement.ts'
import type { EventType } from './event-types.ts'
import { auditEvents } from '#src/db/schema.ts'

/** Where a request came from, as the audit trail records it. */
export interface Origin {
  readonly ip: string | null
  readonly userAgent: string | null
  readonly requestId: string | null
}

interface AuditSource {
  readonly type: EventType
  readonly userId: SQL
  /** Who did it; nobody known when it is left out. */
  readonly actorId?: SQL
  readonly sessionId?: SQL
  readonly detail?: SQL
  /** Rows to record one event each of; without it, one event. */
  readonly from?: SQL
}

/** The INSERT that records events in the same statement as their cause; takes its origin from the input. */
export function insertEvent($: Parameters<Origin>, { type, ...event }: AuditSource): SQL {
  return insertion($, { ...event, type: sql.raw(`'${type}'`) })
}

function insertion($: Parameters<Origin>, event: Omit<AuditSource, 'type'> & { readonly type: SQL }): SQL {
  const {
    type,
    userId,
    actorId = sql`null::integer`,
    sessionId = sql`null::uuid`,
    detail = sql`null::jsonb`,
    from,
  } = event
  return sql`insert into ${auditEvents} (type, user_id, actor_id, session_id, ip, user_agent, request_id, detail)
    select ${type}, ${userId}, ${actorId}, ${sessionId}, ${$.ip}::text,
      ${$.userAgent}::text, ${$.requestId}::text, ${detail}
    ${from ? sql`from ${from}` : sql``}`
}

/** Records one event that changes nothing else, such as a failed login; `detail` is JSON. */
export const recordEvent = statement<
  Origin & { type: EventType; userId: number | null; actorId: number | null; detail: string | null },
  never
>(
  ($) =>
    insertion($, {
      type: sql`${$.type}::text`,
      userId: sql`${$.userId}::integer`,
      actorId: sql`${$.actorId}::integer`,
      detail: sql`${$.detail}::text::jsonb`,
    }),
  {},
)

/** Deletes up to 1,000 events older than the retention (days). */
export const sweepAuditEvents = statement<{ days: number }, { deleted: number }>(
  ($) => sql`
  with batch as (
    select id from ${auditEvents}
    where created_at < now() - make_interval(days => ${$.days}::integer)
    order by created_at limit 1000 for update skip locked
  ), gone as (
    delete from ${auditEvents} using batch where ${auditEvents}.id = batch.id returning 1
  )
  select count(*)::integer as deleted from gone`,
  { deleted: 'int4' },
)

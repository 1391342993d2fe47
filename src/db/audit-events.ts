import { type SQL, sql } from 'drizzle-orm'
import { statement } from './client.ts'
import { auditEvents } from './schema.ts'

/** Where a request came from, as the audit trail records it. */
export interface Origin extends Record<string, unknown> {
  readonly ip: string | null
  readonly userAgent: string | null
  readonly requestId: string | null
}

interface AuditSource {
  readonly type: SQL
  readonly userId: SQL
  readonly actorId?: SQL
  readonly sessionId?: SQL
  readonly detail?: SQL
  /** Rows to record one event each of; without it, one event. */
  readonly from?: SQL
}

/** The INSERT that records events in the same statement as their cause; takes its origin from the input. */
export function recorded({ type, userId, actorId = userId, sessionId, detail, from }: AuditSource): SQL {
  return sql`insert into ${auditEvents} (type, user_id, actor_id, session_id, ip, user_agent, request_id, detail)
    select ${type}, ${userId}, ${actorId}, ${sessionId ?? sql`null::uuid`}, ${sql.placeholder('ip')}::text,
      ${sql.placeholder('userAgent')}::text, ${sql.placeholder('requestId')}::text, ${detail ?? sql`null::jsonb`}
    ${from ? sql`from ${from}` : sql``}`
}

/** Records one event that changes nothing else, such as a failed login. */
export const recordEvent = statement<Origin & { type: string; userId: number | null }, never>(
  recorded({ type: sql`${sql.placeholder('type')}::text`, userId: sql`${sql.placeholder('userId')}::integer` }),
)

/** Deletes up to 1,000 events older than the retention (days). */
export const sweepAuditEvents = statement<{ days: number }, { deleted: number }>(sql`
  with batch as (
    select id from ${auditEvents}
    where created_at < now() - make_interval(days => ${sql.placeholder('days')}::integer)
    order by created_at limit 1000 for update skip locked
  ), gone as (
    delete from ${auditEvents} using batch where ${auditEvents}.id = batch.id returning 1
  )
  select count(*)::integer as deleted from gone`)

import { type Origin, recordEvent } from './audit.sql.ts'
import type { EventType } from './event-types.ts'
import { Problem } from '#src/problem.ts'
import type { Core } from '#src/features/core.ts'

interface Subject {
  /** Whose trail it belongs to. */
  readonly userId: number | null
  /** Who did it; nobody known when it is left out. */
  readonly actorId?: number | null
  readonly detail?: Readonly<Record<string, unknown>>
}

/** Records an event that changes nothing else, such as a refusal, or that is no statement of its own. */
export async function record(
  { db }: Pick<Core, 'db'>,
  type: EventType,
  { userId, actorId = null, detail }: Subject,
  origin: Origin,
): Promise<void> {
  const text = detail === undefined ? null : JSON.stringify(detail)
  await db.rows(recordEvent, { ...origin, type, userId, actorId, detail: text })
}

/** Records that the last active administrator was to be removed, demoted or disabled; the refusal is to be thrown. */
export async function refusedLastAdmin(
  core: Pick<Core, 'db'>,
  userId: number,
  { actorId, ...origin }: Origin & { readonly actorId: number | null },
): Promise<Problem> {
  await record(core, 'administration.refused', { userId, actorId, detail: { code: 'last_admin' } }, origin)
  return new Problem('last_admin')
}

/** Records a request that needs a role which the user does not have; the refusal is to be thrown. */
export async function refusedRole(
  core: Pick<Core, 'db'>,
  userId: number,
  action: string,
  origin: Origin,
): Promise<Problem> {
  const detail = { code: 'insufficient_scope', action }
  await record(core, 'administration.refused', { userId, actorId: userId, detail }, origin)
  return new Problem('insufficient_scope')
}

/** Records what an operator did to a signing key. */
export function recordKeyChange(
  core: Pick<Core, 'db'>,
  type: 'signing_key.rotated' | 'signing_key.retired',
  kid: string,
  origin: Origin,
): Promise<void> {
  return record(core, type, { userId: null, detail: { kid } }, origin)
}

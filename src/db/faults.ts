import postgres from 'postgres'
import { Problem } from '#src/problem.ts'

/** A fault of the pool itself, with a code as Postgres and Node have theirs. */
export class DatabaseError extends Error {
  readonly code: string
  constructor(code: string) {
    super(code)
    this.code = code
  }
}

/** The database cannot be used as it is; the message says why, for the person at the terminal. */
export class SchemaError extends Error {}

/** Whether the error is a unique violation (SQLSTATE 23505) of the named index. */
export function violates(error: unknown, index: string): boolean {
  if (!(error instanceof postgres.PostgresError) || error.code !== '23505') return false
  // Citus numbers the index of each part of a table, and tells its name in the message alone.
  const name = error.constraint_name ?? /"([^"]+)"/.exec(error.message)?.[1]
  return name?.replace(/_\d{6,}$/, '') === index
}

/** The SQLSTATE or the code of the driver or of Node; '' for any other error. */
export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}

/** Not done by the server, so safe to send again: serialization, deadlock, changed plan, lost prepared statement, standby. */
const rolledBack = new Set(['40001', '40P01', '0A000', '26000', '25006'])
const lost = /^(CONNECTION_CLOSED|CONNECTION_DESTROYED|57P01|57P02|ECONNRESET|EPIPE|ETIMEDOUT)$/

/** The connection went away with the statement, or says nothing, or its commit may be lost: nobody knows whether it ran. */
function isInDoubt(error: unknown): boolean {
  return isDeadline(error) || isUnreplicated(error) || (!(error instanceof DatabaseError) && lost.test(codeOf(error)))
}

/** Whether a statement that failed so may be sent once more. */
export function mayRunAgain(error: unknown, repeatable: boolean): boolean {
  if (rolledBack.has(codeOf(error))) return true
  return repeatable && isInDoubt(error) && !isDeadline(error) && !isUnreplicated(error)
}

/** Whether a statement had no answer, not even to its cancellation. */
export function isDeadline(error: unknown): boolean {
  return error instanceof DatabaseError && error.code === 'DEADLINE_PASSED'
}

/** Whether a statement is committed, but not on the standbys that it should be on. */
function isUnreplicated(error: unknown): boolean {
  return error instanceof DatabaseError && error.code === 'NOT_REPLICATED'
}

/** Whether the server only reads: it is no primary, or no longer (SQLSTATE 25006, read_only_sql_transaction). */
export function isReadOnly(error: unknown): boolean {
  return codeOf(error) === '25006'
}

/** Whether the database understands a statement and has no way to run it (SQLSTATE 0A000, feature_not_supported). */
export function isUnsupported(error: unknown): boolean {
  // A prepared statement whose result has another type by now has the same code, and runs once it is prepared anew.
  return error instanceof postgres.PostgresError && error.code === '0A000' && error.routine !== 'RevalidateCachedQuery'
}

/** Whether driver and server may no longer agree on what the connection holds (protocol, prepared statements). */
export function isOutOfStep(error: unknown): boolean {
  return /^(08|26|42P05)/.test(codeOf(error))
}

/**
 * SQLSTATE classes of connections, prepared statements, log-ins, roll-backs, resources, locks and operators; and what the
 * network says. A mistake of ours (`UNDEFINED_VALUE`) is none of them.
 */
const away = /^(08|26|28|3D|40|42P05|53|55|57|58|XX|25006|CONNECT|E[A-Z]{3})/

/** The error as callers see it: a fault of the database is a `Problem`, all else is as it was. */
export function asProblem(error: unknown, repeatable: boolean): unknown {
  const code = codeOf(error)
  if (!(error instanceof DatabaseError) && !away.test(code)) return error
  // Only the code is kept: messages and parameters of the driver hold addresses and hashes.
  const options = { cause: `database: ${code}`, headers: { 'retry-after': '2' } }
  return new Problem(isInDoubt(error) && !repeatable ? 'outcome_unknown' : 'unavailable', options)
}

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

/** Whether the error is a unique violation (SQLSTATE 23505) of the named index. */
export function violates(error: unknown, index: string): boolean {
  return error instanceof postgres.PostgresError && error.code === '23505' && error.constraint_name === index
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}

/** Rolled back by the server, so safe to send again: serialization, deadlock, changed plan, lost prepared statement. */
const rolledBack = new Set(['40001', '40P01', '0A000', '26000'])
const lost = /^(CONNECTION_CLOSED|CONNECTION_ENDED|CONNECTION_DESTROYED|57P01|57P02|ECONNRESET|EPIPE)$/

/** Whether a statement that failed so may be sent once more. */
export function mayRunAgain(error: unknown, repeatable: boolean): boolean {
  const code = codeOf(error)
  return rolledBack.has(code) || (repeatable && lost.test(code))
}

/** SQLSTATE classes of connections, log-ins, roll-backs, resources, locks and operators; and whatever the network says. */
const away = /^(08|28|3D|40|53|57|58|XX|25006|55|[A-Z]{4,})/

/** The error as callers see it: a fault of the database is a `Problem` `unavailable`, all else is as it was. */
export function asProblem(error: unknown): unknown {
  const code = codeOf(error)
  // Only the code is kept: messages and parameters of the driver hold addresses and hashes.
  return away.test(code)
    ? new Problem('unavailable', { cause: `database: ${code}`, headers: { 'retry-after': '2' } })
    : error
}

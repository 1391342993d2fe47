import { ConfigError } from './config.ts'
import { SchemaError } from './db/migrate.ts'
import { EmbeddedPostgresError } from './embedded-postgres.ts'
import { Problem } from './problem.ts'

/** Why a program cannot go on, for the person at the terminal: one sentence where we know it, a stack where we do not. */
export function explain(error: unknown): string {
  if (error instanceof ConfigError || error instanceof SchemaError || error instanceof EmbeddedPostgresError)
    return error.message
  if (error instanceof Problem) return error.detail
  const code = error instanceof Error && 'code' in error ? String(error.code) : undefined
  if (code === 'EADDRINUSE') return 'The port is in use by another program; stop it or set PORT.'
  if (code === 'EACCES') return 'The port or the data folder may not be used by this user; set PORT or DATA_DIR.'
  if (code === '42501') return 'The role of the database lacks rights on the tables; see docs/operations.md.'
  if (code !== undefined)
    return `The start failed with ${code}. Is the database reachable, with this user and password?`
  return String(error instanceof Error ? error.stack : error)
}

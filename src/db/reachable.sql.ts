import { sql } from 'drizzle-orm/sql'
import { users } from './schema.ts'
import { type NoInput, statement } from './statement.ts'

/** Asks for a row of a table, so that a database without the schema is not taken for one that is ready. */
export const reachable = statement<NoInput, { found: number }>(
  () => sql`select 1 as found from ${users} limit 1`,
  { found: 'int4' },
  { repeatable: true },
)

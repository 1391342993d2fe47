import { sql } from 'drizzle-orm/sql'
import { statement } from './database.ts'
import { users } from './schema.ts'

/** Asks for a row of a table, so that a database without the schema is not taken for one that is ready. */
export const reachable = statement<Record<string, never>, unknown>(sql`select 1 from ${users} limit 1`, true)

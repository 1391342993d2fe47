import { migrateDatabase } from '#src/db/migrate.ts'
import type { Command } from './command.ts'

/** `migrate`: brings the schema of the database up to date. */
export const migrate: Command = async ({ config }) => {
  await migrateDatabase(config.databaseUrl)
  return 'The schema is up to date.'
}

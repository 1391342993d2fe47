import type { AppConfig } from '#src/app.ts'
import { migrateDatabase, requireCurrentSchema } from '#src/db/migrate.ts'

/** Makes sure that the database is there, and of its schema; throws `SchemaError`, or what the driver says. */
export function requireSchema({ database: { url, migrate } }: AppConfig): Promise<void> {
  return migrate ? migrateDatabase(url) : requireCurrentSchema(url)
}

import { migrateDatabase } from '#src/db/migrate.ts'
import type { Context } from './command.ts'

export async function migrate({ config }: Context): Promise<string> {
  await migrateDatabase(config.database.url)
  return 'The schema is up to date.'
}

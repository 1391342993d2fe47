import { migrateDatabase } from '#src/db/migrate.ts'
import { command } from './command.ts'

export const migrate = command({
  name: 'migrate',
  says: 'Brings the schema of the database up to date.',
  run: async ({ config }) => {
    await migrateDatabase(config.databaseUrl)
    return 'The schema is up to date.'
  },
})

import fp from 'fastify-plugin'
import { Database } from '#src/db/client.ts'
import { migrateDatabase, requireCurrentSchema } from '#src/db/migrate.ts'

declare module 'fastify' {
  interface FastifyInstance {
    db: Database
  }
}

interface DbOptions {
  readonly databaseUrl: string
  readonly databasePoolSize: number
  readonly databaseMigrate: boolean
}

/** Migrates (or checks) the schema, opens the pool, closes it last. */
export default fp<DbOptions>(
  async (app, { databaseUrl, databasePoolSize, databaseMigrate }) => {
    await (databaseMigrate ? migrateDatabase(databaseUrl) : requireCurrentSchema(databaseUrl))
    const db = new Database(databaseUrl, databasePoolSize, (message) => app.log.warn(message))
    app.decorate('db', db)
    app.addHook('onClose', () => db.close())
  },
  { name: 'db' },
)

import fp from 'fastify-plugin'
import type { Config } from '#src/config.ts'
import { Budget } from '#src/db/budget.ts'
import { Database } from '#src/db/database.ts'
import { migrateDatabase, requireCurrentSchema } from '#src/db/migrate.ts'
import { openProbe } from '#src/db/probe.ts'
import { onceASecond } from '#src/once-a-second.ts'

declare module 'fastify' {
  interface FastifyInstance {
    db: Database
    /** Throws `unavailable` while the database is away; asks it once a second at most. */
    reachDatabase: () => Promise<void>
  }
  interface FastifyRequest {
    databaseBudget: Budget | null
  }
}

/** Migrates (or checks) the schema, opens the pool, gives each request its budget, closes the pool last. */
export default fp<Config['database'] & { readonly url: string }>(
  async (app, { url, poolSize, migrate }) => {
    await (migrate ? migrateDatabase(url) : requireCurrentSchema(url))
    const { traces } = app
    const db = new Database(url, poolSize, (message) => app.log.warn(message), traces?.follow)
    app.decorate('db', db)
    app.addHook('onClose', () => db.close())
    const probe = openProbe(url)
    app.decorate('reachDatabase', onceASecond(probe.reach))
    app.addHook('onClose', probe.close)

    app.decorateRequest('databaseBudget', null)
    app.addHook('onRequest', (request, _reply, done) => {
      request.databaseBudget = new Budget()
      traces?.join(request, request.databaseBudget)
      request.databaseBudget.run(done)
    })
    // What follows a body runs in the context of the socket that brought it.
    app.addHook('preValidation', ({ databaseBudget }, _reply, done) => {
      if (databaseBudget === null || Budget.current === databaseBudget) done()
      else databaseBudget.run(done)
    })
    app.addHook('onResponse', ({ databaseBudget }, _reply, done) => {
      databaseBudget?.lift()
      done()
    })
  },
  { name: 'db', dependencies: ['traces'] },
)

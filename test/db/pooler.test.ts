import { describe, expect, inject, test } from 'vitest'
import { migrateDatabase, requireCurrentSchema } from '#src/db/migrate.ts'
import { usersWhere } from '#src/features/accounts/administration.sql.ts'
import { refreshWith, signedUp, type TokenReply } from '#test/support/actors.ts'
import { cleanUp } from '#test/support/clean-up.ts'
import { keepsStatements, pgBouncerVersion, startPgBouncer } from '#test/support/pgbouncer.ts'
import { freePort, temporaryFolder } from '#test/support/process.ts'
import { cloneDatabase, startService, type TestDatabase } from '#test/support/service.ts'

const version = pgBouncerVersion()
const isInstalled = version !== undefined
const isNew = isInstalled && keepsStatements(version)
if (!isInstalled) process.stderr.write('PgBouncer is not installed: poolers are not tried.\n')
else if (!isNew)
  process.stderr.write(`PgBouncer ${version} loses prepared statements: its transaction mode is not tried.\n`)
const withoutMigrations = { DATABASE_MIGRATE: 'off' }

describe.skipIf(!isInstalled)('a pooler', () => {
  test('in session mode serves', async () => {
    const database = await cloneDatabase()
    const url = await startPooler(database, 'pool_mode = session')
    const { app } = await startService(withoutMigrations, { url, sql: database.sql })
    const { me, refresh } = await signedUp(app)
    expect([(await me()).statusCode, (await refresh()).statusCode]).toEqual([200, 200])
  })

  test('in transaction mode without prepared statements stops the start', async () => {
    const database = await cloneDatabase()
    const settings = ['pool_mode = transaction', ...(isNew ? ['max_prepared_statements = 0'] : [])]
    const url = await startPooler(database, ...settings)
    await expect(requireCurrentSchema(url)).rejects.toThrow('The pooler loses prepared statements')
  })

  test.skipIf(!isNew)('in transaction mode with prepared statements serves', async () => {
    const database = await cloneDatabase()
    const url = await startPooler(database, 'pool_mode = transaction', 'max_prepared_statements = 100')
    const { app } = await startService(withoutMigrations, { url, sql: database.sql })
    const actors = await Promise.all(Array.from({ length: 8 }, () => signedUp(app)))
    const replies = await Promise.all(actors.flatMap(({ me, refresh }) => [me(), refresh()]))
    expect(new Set(replies.map(({ statusCode }) => statusCode))).toEqual(new Set([200]))
  })

  test.skipIf(!isNew)('in transaction mode whose statements wait for a lock too long serves afterwards', async () => {
    const database = await cloneDatabase()
    const { sql } = database
    await sql.unsafe(`alter database ${await nameOf(database)} set lock_timeout = '200ms'`)
    const url = await startPooler(database, 'pool_mode = transaction', 'default_pool_size = 1')
    const first = await startService(withoutMigrations, { url, sql })
    const { refresh } = await signedUp(first.app)
    const held = (await refresh()).json<TokenReply>().refresh_token
    // The server has prepared what this one has yet to ask for.
    const { app } = await startService(withoutMigrations, { url, sql })
    const statuses = await sql.begin(async (transaction) => {
      await transaction`lock table refresh_tokens in access exclusive mode`
      return [(await refreshWith(app, held)).statusCode]
    })
    for (let again = 0; again < 2; again++) statuses.push((await refreshWith(app, held)).statusCode)
    expect(statuses).toEqual([503, 200, 200])
  })

  test.skipIf(!isNew)(
    'does so, too, when a statement that it knows waits with a parameter of another type',
    async () => {
      const database = await cloneDatabase()
      const { sql } = database
      await sql.unsafe(`alter database ${await nameOf(database)} set lock_timeout = '200ms'`)
      const url = await startPooler(database, 'pool_mode = transaction', 'default_pool_size = 1')
      const search = { pattern: null, role: null, after: 0, limit: 1 }
      const services = [
        await startService(withoutMigrations, { url, sql }),
        await startService(withoutMigrations, { url, sql }),
      ]
      const [find, findAnew] = services.map(
        ({ app }) =>
          async (isActive: boolean | null) =>
            (await app.db.rows(usersWhere, { ...search, isActive })).length,
      )
      expect([await find?.(true), await findAnew?.(null)]).toEqual([1, 1])
      await sql.begin(async (transaction) => {
        await transaction`lock table users in access exclusive mode`
        await expect(findAnew?.(true)).rejects.toThrow(expect.objectContaining({ code: 'unavailable' }))
      })
      expect(await findAnew?.(true)).toBe(1)
    },
  )

  test.skipIf(!isNew)('in transaction mode serves what is migrated, migrates nothing and keeps no lock', async () => {
    const [migrated, empty] = [await cloneDatabase(), await cloneDatabase({ empty: true })]
    const { app } = await startService({}, { ...migrated, url: await startPooler(migrated, 'pool_mode = transaction') })
    expect((await (await signedUp(app)).me()).statusCode).toBe(200)
    const url = await startPooler(empty, 'pool_mode = transaction')
    await expect(migrateDatabase(url)).rejects.toThrow('run `npm run db:migrate` past it')
    const locks = await empty.sql`
      select from pg_locks l join pg_database d on d.oid = l.database
      where l.locktype = 'advisory' and d.datname = current_database()`
    expect(locks).toEqual([])
  })

  test('in session mode migrates', async () => {
    const database = await cloneDatabase({ empty: true })
    const url = await startPooler(database, 'pool_mode = session')
    await migrateDatabase(url)
    await expect(requireCurrentSchema(url)).resolves.toBeUndefined()
  })

  test('with one connection lets the start go on', async () => {
    const database = await cloneDatabase()
    const url = await startPooler(database, 'pool_mode = transaction', 'default_pool_size = 1')
    await expect(requireCurrentSchema(url)).resolves.toBeUndefined()
  })

  test('with one connection migrates nothing', async () => {
    const empty = await cloneDatabase({ empty: true })
    const url = await startPooler(empty, 'pool_mode = transaction', 'default_pool_size = 1')
    await expect(migrateDatabase(url)).rejects.toThrow('run `npm run db:migrate` past it')
  })
})

/** Resolves to the URL of the database behind a PgBouncer of its own. */
async function startPooler(database: TestDatabase, ...settings: string[]): Promise<string> {
  const [folder, port] = [await temporaryFolder(), await freePort()]
  const pooler = await startPgBouncer({ server: inject('serverUrl'), folder, port, settings })
  cleanUp(pooler.kill)
  return pooler.urlOf(await nameOf(database))
}

async function nameOf({ sql }: TestDatabase): Promise<string> {
  const [row] = await sql<{ name: string }[]>`select current_database() as name`
  return row?.name ?? ''
}

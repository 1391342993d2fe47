import { describe, expect, test } from 'vitest'
import { migrateDatabase, requireCurrentSchema } from '#src/db/migrate.ts'
import { signedUp } from '#test/support/actors.ts'
import { cloneDatabase, startService } from '#test/support/service.ts'

describe('migrations', () => {
  test('run once when four instances start on an empty database, and all four serve', async () => {
    const database = await cloneDatabase({ empty: true })
    const services = await Promise.all([1, 2, 3, 4].map(() => startService({}, database)))
    for (const { app } of services) expect((await (await signedUp(app)).me()).statusCode).toBe(200)
    const [row] = await database.sql`select count(*) = count(distinct hash) as once from drizzle.__drizzle_migrations`
    expect(row).toEqual({ once: true })
  })

  test('refuse a database that is newer than the code', async () => {
    const { url, sql } = await cloneDatabase()
    await sql`insert into drizzle.__drizzle_migrations (hash, created_at) values ('later', 99999999999999)`
    await expect(migrateDatabase(url)).rejects.toThrow('The database is newer than this version of Latchkey')
  })

  test('that are missing stop a service that may not make them', async () => {
    const { url } = await cloneDatabase({ empty: true })
    await expect(requireCurrentSchema(url)).rejects.toThrow('npm run db:migrate')
  })

  test('once made, need no right to change the schema', async () => {
    const { url, sql } = await cloneDatabase()
    const role = `limited_${process.pid}`
    await sql.unsafe(`create role ${role} login password 'limited';
      grant usage on schema public, drizzle to ${role};
      grant select, insert, update, delete on all tables in schema public to ${role};
      grant select on drizzle.__drizzle_migrations to ${role}`)
    const limited = new URL(url)
    limited.username = role
    limited.password = 'limited'
    const { app } = await startService({}, { url: limited.href, sql })
    expect((await (await signedUp(app)).refresh()).statusCode).toBe(200)
    await app.close()
    await sql.unsafe(`drop owned by ${role}; drop role ${role}`)
  })
})

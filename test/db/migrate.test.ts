import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type postgres from 'postgres'
import { describe, expect, test } from 'vitest'
import { migrateDatabase, requireCurrentSchema } from '#src/db/migrate.ts'
import { signedUp } from '#test/support/actors.ts'
import { temporaryFolder } from '#test/support/process.ts'
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

  test('that are older than the last one are refused, and nothing is changed', async () => {
    const { url, sql } = await cloneDatabase()
    const folder = await migrationsWith([
      { tag: '9990_late', after: -1, text: 'create table late (id integer)' },
      { tag: '9991_newest', after: 1, text: 'create table newest (id integer)' },
    ])
    await expect(migrateDatabase(url, folder)).rejects.toThrow('9990_late is older than the last')
    const [row] = await sql`select to_regclass('late') as late, to_regclass('newest') as newest`
    expect(row).toEqual({ late: null, newest: null })
  })

  test('carry stamps that rise, or some would be left out', async () => {
    const { entries } = await journal()
    const stamps = entries.map(({ when }) => when)
    expect(stamps).toEqual(stamps.toSorted((a, b) => a - b))
    expect(new Set(stamps).size).toBe(stamps.length)
  })

  test('give way to statements when a table is locked, and come again', async () => {
    const { url, sql } = await cloneDatabase()
    const folder = await migrationsWith([
      { tag: '9990_more', after: 1, text: 'alter table users add column more text' },
    ])
    await sql.unsafe('begin; select from users for share')
    const migrated = migrateDatabase(url, folder)
    // Once it waits for the lock, then it does not; all the while its connection stays.
    await untilWaiters(sql, 1)
    await untilWaiters(sql, 0)
    await sql`rollback`
    await migrated
    const [row] = await sql`select count(more)::integer as count from users`
    expect(row).toEqual({ count: 0 })
  })

  test('give way before a statement does that waits for them, and that they wait for', async () => {
    const { url, sql } = await cloneDatabase()
    // Nobody finds the deadlock, and a statement waits as long as the service's.
    await sql.unsafe(`alter database ${new URL(url).pathname.slice(1)} set deadlock_timeout = '1min'`)
    await sql.unsafe("set deadlock_timeout = '1min'; set lock_timeout = '1500ms'")
    const folder = await migrationsWith([
      { tag: '9990_more', after: 1, text: 'alter table users add column more text' },
      { tag: '9991_more', after: 2, text: 'alter table sessions add column more text' },
    ])
    await sql.unsafe('begin; select from sessions')
    const migrated = migrateDatabase(url, folder)
    await untilWaiters(sql, 1)
    expect(await sql`select from users`).toEqual([])
    await sql`commit`
    await migrated
    expect(await sql`select users.more, sessions.more from users, sessions`).toEqual([])
  })

  test('wait long enough in the end for an autovacuum to give way', async () => {
    const { url, sql } = await cloneDatabase()
    const folder = await migrationsWith([
      { tag: '9990_more', after: 1, text: 'alter table users add column more text' },
    ])
    // As a vacuum does.
    await sql.unsafe('begin; lock table users in share update exclusive mode')
    const migrated = migrateDatabase(url, folder)
    await expect
      .poll(
        () => sql`select from pg_locks where not granted and database = (
          select oid from pg_database where datname = current_database()
        ) and clock_timestamp() - waitstart > interval '1 second'`,
      )
      .toHaveLength(1)
    await sql`rollback`
    await migrated
    expect(await sql`select more from users`).toEqual([])
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

interface Entry {
  readonly idx: number
  readonly when: number
  readonly tag: string
}

async function journal(folder = 'drizzle'): Promise<{ entries: Entry[] }> {
  return JSON.parse(await readFile(join(folder, 'meta/_journal.json'), 'utf8')) as { entries: Entry[] }
}

/** A copy of the migrations with some more, stamped so many milliseconds after the last. */
async function migrationsWith(more: { tag: string; after: number; text: string }[]): Promise<string> {
  const folder = await temporaryFolder()
  await cp('drizzle', folder, { recursive: true })
  const { entries, ...rest } = await journal(folder)
  const last = entries.at(-1)?.when ?? 0
  const added = more.map(({ tag, after }, i) => ({
    idx: entries.length + i,
    when: last + after,
    tag,
    breakpoints: true,
  }))
  await writeFile(join(folder, 'meta/_journal.json'), JSON.stringify({ ...rest, entries: [...entries, ...added] }))
  for (const { tag, text } of more) await writeFile(join(folder, `${tag}.sql`), text)
  return folder
}

async function untilWaiters(sql: postgres.Sql, count: number): Promise<void> {
  for (;;) {
    await sql`select pg_stat_clear_snapshot()`
    const rows = await sql`
      select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
    if (rows.length === count) return
  }
}

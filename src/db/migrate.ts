import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import type postgres from 'postgres'
import { clock } from './clock.ts'
import { connectAlone } from './connect-alone.ts'
import { codeOf, SchemaError } from './faults.ts'
import { isBehindPooler, requireUsablePooler } from './pooler.ts'

export { SchemaError } from './faults.ts'

const migrations = join(import.meta.dirname, '../../drizzle')
/** Any number; the same for every instance. */
const lockKey = 7_316_011_955
const reachMs = 10_000
/**
 * A migration that waits for a lock holds up every statement behind it, so it gives way and comes again: before the
 * statements do, before they wait too long for a connection (`database.ts`), and before a deadlock costs one of them.
 * In the end it waits longer, because an autovacuum gives way only to who has waited for a second (`deadlock_timeout`).
 */
const patience = { lockTimeouts: [...Array<string>(5).fill('300ms'), '2s', '2s', '2s'], pauseMs: 1000 }

/**
 * Brings the schema up to date under one advisory lock, so that of many instances one migrates and all wait for it;
 * throws `SchemaError` when the database is newer than the code, or cannot be used as it is. Needs no DDL rights when
 * there is nothing to do.
 */
export function migrateDatabase(url: string, migrationsFolder = migrations): Promise<void> {
  return withConnection(url, async (connection, keepsLocks) => {
    if (!keepsLocks) return requireNoMigration(connection, migrationsFolder, unlockable)
    await connection`select pg_advisory_lock(${lockKey})`
    if ((await pendingMigrations(connection, migrationsFolder)) === 0) return
    await migrateInTurn(connection, migrationsFolder)
    if ((await pendingMigrations(connection, migrationsFolder)) > 0)
      throw new SchemaError('A migration was not applied although nothing failed; do not start on this database.')
  })
}

/** Checks that the schema is the one of this code, without changing it; throws `SchemaError`. */
export function requireCurrentSchema(url: string): Promise<void> {
  return withConnection(url, (connection) => requireNoMigration(connection, migrations, switchedOff))
}

const switchedOff = 'The database lacks migrations; run `npm run db:migrate` with a role that may change it.'
/** The lock would stay behind on a connection of the pooler, and others could not have it. */
const unlockable =
  'The database lacks migrations, and this pooler hands its connections around: run `npm run db:migrate` past it; see docs/operations.md.'

async function requireNoMigration(connection: postgres.Sql, folder: string, otherwise: string): Promise<void> {
  if ((await pendingMigrations(connection, folder)) > 0) throw new SchemaError(otherwise)
}

type Use = (connection: postgres.Sql, keepsLocks: boolean) => Promise<void>

async function withConnection(url: string, use: Use): Promise<void> {
  const connection = connectAlone(url)
  try {
    const keepsLocks = (await reached(connection)) ? await requireUsablePooler(url) : true
    await use(connection, keepsLocks)
  } finally {
    await connection.end({ timeout: 1 })
  }
}

/** Waits for the connection, not for ever; resolves to whether there is a pooler in between. */
async function reached(connection: postgres.Sql): Promise<boolean> {
  const alarm = clock.set(reachMs, () => void connection.end({ timeout: 0 }))
  try {
    return await isBehindPooler(connection)
  } catch (error) {
    const code = codeOf(error)
    if (/^(CONNECTION_CLOSED|ECONNRESET|EPIPE)$/.test(code))
      throw new SchemaError('The database takes connections and closes them; is it a proxy with no database behind it?')
    if (code.startsWith('CONNECT'))
      throw new SchemaError(`The database did not answer within ${reachMs / 1000} seconds.`)
    throw error
  } finally {
    clock.cancel(alarm)
  }
}

async function migrateInTurn(connection: postgres.Sql, migrationsFolder: string): Promise<void> {
  // Loaded here, because most starts find nothing to migrate.
  const { drizzle } = await import('drizzle-orm/postgres-js')
  const { migrate } = await import('drizzle-orm/postgres-js/migrator')
  for (const lockTimeout of patience.lockTimeouts)
    try {
      await connection`select set_config('lock_timeout', ${lockTimeout}, false)`
      await migrate(drizzle({ client: connection }), { migrationsFolder })
      return
    } catch (error) {
      const code = codeOf(error instanceof Error ? error.cause : error)
      if (code !== '55P03' && code !== '40P01') throw error
      await setTimeout(patience.pauseMs)
    }
  throw new SchemaError(
    'A migration could not lock its table: a long transaction or a backup holds it. Nothing was changed; start again later.',
  )
}

/** The number of migrations that are still to come; throws `SchemaError` when one of them would be skipped. */
async function pendingMigrations(connection: postgres.Sql, folder: string): Promise<number> {
  const known = await migrationsIn(folder)
  const applied = await appliedMigrations(connection)
  if (applied.some((at) => !known.some(({ when }) => when === at)))
    throw new SchemaError(
      'The database is newer than this version of Latchkey; run the newer version or restore a backup.',
    )
  const pending = known.filter(({ when }) => !applied.includes(when))
  // Drizzle applies what is newer than the last that was applied, and passes over the rest.
  const late = pending.find(({ when }) => when < Math.max(...applied))
  if (late)
    throw new SchemaError(
      `The migration ${late.tag} is older than the last that was applied, and would be left out; generate it anew.`,
    )
  return pending.length
}

async function migrationsIn(folder: string): Promise<{ when: number; tag: string }[]> {
  const journal = JSON.parse(await readFile(join(folder, 'meta/_journal.json'), 'utf8')) as {
    entries: { when: number; tag: string }[]
  }
  return journal.entries
}

async function appliedMigrations(connection: postgres.Sql): Promise<number[]> {
  const [{ exists } = { exists: false }] = await connection<{ exists: boolean }[]>`
    select to_regclass('drizzle.__drizzle_migrations') is not null as exists`
  if (!exists) return []
  const rows = await connection<{ at: string }[]>`select created_at as at from drizzle.__drizzle_migrations`
  return rows.map(({ at }) => Number(at))
}

import { join } from 'node:path'
import { readMigrationFiles } from 'drizzle-orm/migrator'
import { drizzle } from 'drizzle-orm/postgres-js'
import { migrate } from 'drizzle-orm/postgres-js/migrator'
import type postgres from 'postgres'
import { connectAlone } from './client.ts'

const migrationsFolder = join(import.meta.dirname, '../../drizzle')
/** Any number; the same for every instance. */
const lockKey = 7_316_011_955

export class SchemaError extends Error {}

/**
 * Brings the schema up to date under one advisory lock, so that of many instances one migrates and all wait for it;
 * throws `SchemaError` when the database is newer than the code. Needs no DDL rights when there is nothing to do.
 */
export async function migrateDatabase(url: string): Promise<void> {
  const connection = connectAlone(url)
  try {
    await connection`select pg_advisory_lock(${lockKey})`
    if ((await pendingMigrations(connection)) > 0) await migrate(drizzle({ client: connection }), { migrationsFolder })
  } finally {
    await connection.end({ timeout: 1 })
  }
}

/** Checks that the schema is the one of this code, without changing it; throws `SchemaError`. */
export async function requireCurrentSchema(url: string): Promise<void> {
  const connection = connectAlone(url)
  try {
    if ((await pendingMigrations(connection)) > 0)
      throw new SchemaError('The database lacks migrations; run `npm run db:migrate` with a role that may change it.')
  } finally {
    await connection.end({ timeout: 1 })
  }
}

async function pendingMigrations(connection: postgres.Sql): Promise<number> {
  const known = readMigrationFiles({ migrationsFolder })
  const applied = await appliedMigrations(connection)
  if (applied.some((at) => !known.some(({ folderMillis }) => folderMillis === at)))
    throw new SchemaError(
      'The database is newer than this version of Latchkey; run the newer version or restore a backup.',
    )
  return known.length - applied.length
}

async function appliedMigrations(connection: postgres.Sql): Promise<number[]> {
  const [{ exists } = { exists: false }] = await connection<{ exists: boolean }[]>`
    select to_regclass('drizzle.__drizzle_migrations') is not null as exists`
  if (!exists) return []
  const rows = await connection<{ at: string }[]>`select created_at as at from drizzle.__drizzle_migrations`
  return rows.map(({ at }) => Number(at))
}

import { setTimeout } from 'node:timers/promises'
import { connectAlone } from '#src/db/client.ts'
import { migrateDatabase, requireCurrentSchema } from '#src/db/migrate.ts'
import type { AppConfig } from '#src/app.ts'
import { codeOf, Failure } from './failure.ts'

/** As long as somebody at a terminal may be left without a word. */
const patienceSeconds = 5

/** Makes sure that the database is there, and of its schema; throws `Failure` or `SchemaError`. */
export async function requireSchema({ databaseUrl, databaseMigrate }: AppConfig): Promise<void> {
  await requireDatabase(databaseUrl)
  await (databaseMigrate ? migrateDatabase(databaseUrl) : requireCurrentSchema(databaseUrl))
}

/** Asks the database once; throws `Failure` when it does not answer. The driver by itself would try for ever. */
export async function requireDatabase(url: string): Promise<void> {
  const connection = connectAlone(url)
  const answered = new AbortController()
  try {
    await Promise.race([connection`select 1`, tooLate(answered.signal)])
  } catch (error) {
    throw error instanceof Failure ? error : new Failure(`The database cannot be used: ${reasonOf(error)}.`)
  } finally {
    answered.abort()
    await connection.end({ timeout: 0 })
  }
}

async function tooLate(signal: AbortSignal): Promise<never> {
  await setTimeout(patienceSeconds * 1000, undefined, { signal })
  throw new Failure(`The database did not answer within ${patienceSeconds} seconds.`)
}

/** Of Postgres' words only the code is shown: they may hold what is stored. */
function reasonOf(error: unknown): string {
  const code = codeOf(error)
  if (code.startsWith('28')) return `it refuses this user or password (${code})`
  if (code === '3D000') return 'there is no database of this name (3D000)'
  return code || 'the reason is unknown'
}

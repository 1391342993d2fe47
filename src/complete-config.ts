import { readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { AppConfig } from './app.ts'
import type { Config } from './config.ts'
import { keptSecretKey, makeFolder } from './data-folder.ts'
import { StartError } from './start-error.ts'
import type { EmbeddedPostgres } from '#dev/embedded-postgres/embedded-postgres.ts'

/** A config that can be used, and the embedded Postgres that was started for it. */
export interface CompleteConfig {
  readonly config: AppConfig
  readonly embedded: EmbeddedPostgres | undefined
}

/**
 * Supplies what the environment leaves out in development: the embedded Postgres and a key, both kept in `DATA_DIR`;
 * throws `DataFolderError` and `EmbeddedPostgresError`. With `share`, uses the Postgres of a service that runs on the same folder.
 */
export async function completeConfig(config: Config, { share = false } = {}): Promise<CompleteConfig> {
  const dataDir = resolve(config.service.dataDir)
  const { database, tokens } = config
  const needsFolder = database.url === undefined || tokens.secretKey === undefined
  if (needsFolder) makeFolder(dataDir)
  const secretKey = tokens.secretKey ?? (await keptSecretKey(join(dataDir, 'secret-key')))
  const withUrl = (url: string): AppConfig => ({
    ...config,
    database: { ...database, url },
    tokens: { ...tokens, secretKey },
  })
  if (database.url !== undefined) return { config: withUrl(database.url), embedded: undefined }

  // Only now: the image, which always has a database, comes without it.
  const { EmbeddedPostgresError, startEmbeddedPostgres } = await loadEmbeddedPostgres()
  const urlFile = join(dataDir, 'database-url')
  try {
    const embedded = await startEmbeddedPostgres({ dataDir: join(dataDir, 'postgres') })
    await writeFile(urlFile, embedded.url)
    return { config: withUrl(embedded.url), embedded }
  } catch (error) {
    if (!share || !(error instanceof EmbeddedPostgresError)) throw error
    const url = await readFile(urlFile, 'utf8').catch(() => Promise.reject(error))
    return { config: withUrl(url), embedded: undefined }
  }
}

async function loadEmbeddedPostgres() {
  try {
    return await import('#dev/embedded-postgres/embedded-postgres.ts')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new StartError('There is no embedded PostgreSQL in the image; set DATABASE_URL and SECRET_KEY.')
  }
}

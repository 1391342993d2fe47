import { randomBytes } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import closeWithGrace from 'close-with-grace'
import { buildApp } from './app.ts'
import { type Config, ConfigError, readConfig } from './config.ts'
import { SchemaError } from './db/migrate.ts'
import { type EmbeddedPostgres, EmbeddedPostgresError, startEmbeddedPostgres } from './embedded-postgres.ts'

let embedded: EmbeddedPostgres | undefined

try {
  await start(readConfig(process.env))
} catch (error) {
  await embedded?.stop()
  process.stderr.write(`${explain(error)}\n`)
  process.exit(1)
}

async function start(config: Config): Promise<void> {
  const dataDir = resolve(config.dataDir)
  if (config.databaseUrl === undefined) {
    await mkdir(dataDir, { recursive: true })
    embedded = await startEmbeddedPostgres({ dataDir: join(dataDir, 'postgres') })
  }
  const databaseUrl = config.databaseUrl ?? embedded?.url ?? ''
  const secretKey = config.secretKey ?? (await keptSecretKey(join(dataDir, 'secret-key')))
  const app = await buildApp({ ...config, databaseUrl, secretKey })

  // A second signal while the first is being served exits at once.
  closeWithGrace({ delay: 9000, logger: app.log }, async ({ err }) => {
    if (err) app.log.error({ err }, 'closing after an error')
    app.leave()
    // Load balancers see /ready fail before connections are refused.
    if (config.production) await setTimeout(1000)
    await app.close()
    await embedded?.stop()
  })
  const address = await app.listen({ host: config.host, port: config.port })
  if (embedded) process.stdout.write(welcome(address, embedded.dataDir, config))
}

/** The key of a development database; made once, readable for its owner only. */
async function keptSecretKey(file: string): Promise<string> {
  const secret = randomBytes(32).toString('hex')
  try {
    await writeFile(file, `${secret}\n`, { mode: 0o600, flag: 'wx' })
    return secret
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error
    return (await readFile(file, 'utf8')).trim()
  }
}

function welcome(address: string, dataDir: string, { docs }: Config): string {
  return `
  Latchkey listens on ${address}
  ${docs ? `API documentation   ${address}/docs` : 'API documentation   off (DOCS)'}
  Data                ${dataDir}

  This is the development default: an embedded Postgres and a key of its own.
  For production set ENVIRONMENT=production, DATABASE_URL, SECRET_KEY and PUBLIC_URL.

`
}

function explain(error: unknown): string {
  if (error instanceof ConfigError || error instanceof SchemaError || error instanceof EmbeddedPostgresError)
    return error.message
  const code = codeOf(error)
  if (code === 'EADDRINUSE') return 'The port is in use by another program; stop it or set PORT.'
  if (code === 'EACCES') return 'The port or the data folder may not be used by this user; set PORT or DATA_DIR.'
  if (code !== undefined) return `Latchkey cannot start: ${code}. Is the database reachable, with this user and password?`
  return String(error instanceof Error ? error.stack : error)
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

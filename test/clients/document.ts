import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type AppConfig, buildApp } from '../../src/app.ts'
import { readConfig } from '../../src/config.ts'
import { startEmbeddedPostgres } from '../../dev/embedded-postgres/embedded-postgres.ts'

/** The service on `DATABASE_URL` or, without it, on an embedded Postgres in a temporary folder. */
export async function buildService() {
  const postgres = process.env['DATABASE_URL'] ? undefined : await startPostgres()
  const settings = { SECRET_KEY: randomBytes(32).toString('hex'), LOG_LEVEL: 'silent', SWEEP: 'off' }
  const config = readConfig({ ...settings, DATABASE_URL: postgres?.url, ...process.env })
  const app = await buildApp(config as AppConfig)
  return { app, close: () => app.close().then(postgres?.stop) }
}

async function startPostgres() {
  const folder = await mkdtemp(join(tmpdir(), 'latchkey-clients-'))
  const { url, stop } = await startEmbeddedPostgres({ dataDir: join(folder, 'postgres') })
  return { url, stop: () => stop().then(() => rm(folder, { recursive: true })) }
}

if (import.meta.main) {
  const { app, close } = await buildService()
  process.stdout.write(`${JSON.stringify(app.swagger(), null, 2)}\n`)
  await close()
}

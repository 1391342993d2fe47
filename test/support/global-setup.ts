import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { connectAlone } from '#src/db/connect-alone.ts'
import { migrateDatabase } from '#src/db/migrate.ts'
import { startEmbeddedPostgres } from '#dev/embedded-postgres/embedded-postgres.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** For whoever makes and migrates databases. */
    serverUrl: string
    /** For the service; not the same where a pooler is in between. */
    serviceUrl: string
    template: string
  }
}

/** One Postgres for the whole run with one migrated template database; every test file clones it. */
export default async function setUp(project: TestProject) {
  const server = await startServer()
  const template = `latchkey_template_${process.pid}`
  const admin = connectAlone(server.url)
  await admin.unsafe(`create database ${template}`)
  await migrateDatabase(databaseUrl(server.url, template))
  project.provide('serverUrl', server.url)
  project.provide('serviceUrl', server.serviceUrl ?? server.url)
  project.provide('template', template)

  return async () => {
    await admin.unsafe(`drop database ${template}`)
    await admin.end()
    await server.stop()
  }
}

async function startServer(): Promise<{ url: string; serviceUrl?: string; stop: () => Promise<void> }> {
  const serviceUrl = process.env['TEST_DATABASE_URL']
  const url = process.env['TEST_DATABASE_OWNER_URL'] ?? serviceUrl
  if (url && serviceUrl) return { url, serviceUrl, stop: async () => {} }
  const dataDir = await mkdtemp(join(tmpdir(), 'latchkey-test-'))
  // As root, Postgres runs as another user, who has to get through.
  await chmod(dataDir, 0o755)
  const settings = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', max_connections: '600' }
  const server = await startEmbeddedPostgres({ dataDir: join(dataDir, 'postgres'), settings })
  return {
    url: server.url,
    stop: async () => {
      await server.stop()
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}

/** The URL of another database on the same server. */
export function databaseUrl(serverUrl: string, name: string): string {
  const url = new URL(serverUrl)
  url.pathname = `/${name}`
  return url.href
}

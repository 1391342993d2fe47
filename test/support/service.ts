import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import type postgres from 'postgres'
import { inject } from 'vitest'
import { type AppConfig, buildApp } from '#src/app.ts'
import { readConfig } from '#src/config.ts'
import { connectAlone } from '#src/db/connect-alone.ts'
import { cleanUp } from './clean-up.ts'
import { databaseUrl } from './global-setup.ts'

export const secretKey = 'a-key-for-tests-0123456789-abcdefghijklmnop'

export interface TestDatabase {
  /** For the service. */
  readonly url: string
  /** For looking at rows and for moving time by writing them. */
  readonly sql: postgres.Sql
}

/** A clone of the template database, dropped when the test or its file ends. */
export async function cloneDatabase({ empty = false } = {}): Promise<TestDatabase> {
  const name = `latchkey_${randomUUID().replaceAll('-', '')}`
  const admin = connectAlone(inject('serverUrl'))
  await admin.unsafe(empty ? `create database ${name}` : `create database ${name} template ${inject('template')}`)
  const sql = connectAlone(databaseUrl(inject('serverUrl'), name))
  cleanUp(async () => {
    await sql.end()
    await admin.unsafe(`drop database if exists ${name} with (force)`)
    await admin.end()
  })
  return { url: databaseUrl(inject('serviceUrl'), name), sql }
}

/** The configuration that the environment of a test makes, with limits off unless a test wants them. */
function testConfig(url: string, environment: Record<string, string> = {}): AppConfig {
  const defaults = {
    DATABASE_URL: url,
    SECRET_KEY: secretKey,
    RATE_LIMITS: 'off',
    SWEEP: 'off',
    LOG_LEVEL: 'silent',
    DATABASE_POOL_SIZE: '4',
  }
  return readConfig({ ...defaults, ...environment }) as AppConfig
}

export interface Service extends TestDatabase {
  readonly app: FastifyInstance
}

/** The service as production builds it, on a database of its own (or the given one); closed when the test or its file ends. */
export async function startService(
  environment: Record<string, string> = {},
  database?: TestDatabase,
): Promise<Service> {
  const { url, sql } = database ?? (await cloneDatabase())
  const app = await buildApp(testConfig(url, environment))
  cleanUp(() => app.close())
  return { app, url, sql }
}

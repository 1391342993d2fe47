import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { buildApp } from '#src/app.ts'
import { migrateDatabase, requireCurrentSchema } from '#src/db/migrate.ts'
import type { Settled } from '#src/settle.ts'

/** One command of `npm run admin`: resolves to what it prints, throws `UsageError` (exit code 2) or anything (1). */
export type Command = (settled: Settled, args: string[]) => Promise<string>

export class UsageError extends Error {}

/** What went wrong, in words for the person at the terminal (exit code 1). */
export class Failure extends Error {}

/** What the audit trail says of a change from the shell. */
export const shell = { actorId: null, ip: null, userAgent: 'admin command', requestId: null }

/** Runs `use` with the service's core, without listening. */
export async function withApp<T>({ config }: Settled, use: (app: FastifyInstance) => Promise<T>): Promise<T> {
  const app = await buildApp(config)
  try {
    return await use(app)
  } finally {
    await app.close()
  }
}

/** Makes sure of the schema for a command that does without the service's core. */
export async function requireSchema({ databaseUrl, databaseMigrate }: Settled['config']): Promise<void> {
  await (databaseMigrate ? migrateDatabase(databaseUrl) : requireCurrentSchema(databaseUrl))
}

/** From the terminal without echo, or the first line of standard input; never from the arguments, which others can see. */
export async function readPassword(): Promise<string> {
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() })
  const terminal = process.stdin.isTTY
  if (terminal) process.stderr.write('Password: ')
  const lines = createInterface({ input: process.stdin, output: silent, terminal })
  for await (const line of lines) {
    lines.close()
    if (terminal) process.stderr.write('\n')
    return line
  }
  throw new UsageError('no password was given')
}

import { randomBytes } from 'node:crypto'
import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { parseArgs } from 'node:util'
import { Value } from 'typebox/value'
import { buildApp } from './app.ts'
import { readConfig } from './config.ts'
import { register } from './core/accounts.ts'
import { migrateDatabase } from './db/migrate.ts'
import { explain } from './explain.ts'
import { Email, FullName, Username } from './routes/fields.ts'
import { settle, type Settled } from './settle.ts'

class UsageError extends Error {}

const usage = `Usage: npm run admin -- COMMAND

  create --email ADDRESS [--username NAME] [--full-name NAME]
      Makes an administrator. The password is asked for, or read from standard input.
  migrate
      Brings the schema of the database up to date.
`

const commands: Record<string, (settled: Settled, args: string[]) => Promise<string>> = { create, migrate }

let settled: Settled | undefined
try {
  const [name = '', ...args] = process.argv.slice(2)
  const command = commands[name]
  if (!command) throw new UsageError(usage)
  // The migration needs a database and nothing else.
  const unused = { SECRET_KEY: randomBytes(32).toString('hex'), PUBLIC_URL: 'http://localhost' }
  const variables = name === 'migrate' ? { ...unused, ...process.env } : process.env
  settled = await settle({ ...readConfig(variables), logLevel: 'silent', sweep: false }, { share: true })
  process.stdout.write(`${await command(settled, args)}\n`)
} catch (error) {
  process.stderr.write(`${isUsage(error) ? error.message : explain(error)}\n`)
  process.exitCode = isUsage(error) ? 2 : 1
} finally {
  await settled?.embedded?.stop()
}

async function create({ config }: Settled, args: string[]): Promise<string> {
  const options = { email: { type: 'string' }, username: { type: 'string' }, 'full-name': { type: 'string' } } as const
  const { values } = parseArgs({ args, options })
  const { email, username = null, 'full-name': fullName = null } = values
  if (!Value.Check(Email, email)) throw new UsageError('--email must be an e-mail address')
  if (username !== null && !Value.Check(Username, username))
    throw new UsageError('--username may hold letters, digits, dot, underscore and hyphen')
  if (fullName !== null && !Value.Check(FullName, fullName)) throw new UsageError('--full-name is not a name')

  const password = await readPassword()
  const app = await buildApp(config)
  try {
    const registration = { email, username, fullName, password, roles: ['user', 'admin'] }
    const account = await register(app.core, registration, { ip: null, userAgent: 'admin', requestId: null })
    return `Created administrator ${account.id}.`
  } finally {
    await app.close()
  }
}

async function migrate({ config }: Settled): Promise<string> {
  await migrateDatabase(config.databaseUrl)
  return 'The schema is up to date.'
}

/** From the terminal without echo, or the first line of standard input; never from the arguments, which others can see. */
async function readPassword(): Promise<string> {
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

function isUsage(error: unknown): error is Error {
  return (
    error instanceof UsageError ||
    (error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS'))
  )
}

import { randomBytes } from 'node:crypto'
import { type Command, Failure, UsageError } from './admin/command.ts'
import { create } from './admin/create.ts'
import { exportUsers } from './admin/export.ts'
import { importUsers } from './admin/import.ts'
import { keys } from './admin/keys.ts'
import { list } from './admin/list.ts'
import { logout } from './admin/logout.ts'
import { migrate } from './admin/migrate.ts'
import { grant, revoke } from './admin/roles.ts'
import { disable, enable } from './admin/state.ts'
import { readConfig } from './config.ts'
import { explain } from './explain.ts'
import { settle, type Settled } from './settle.ts'

const usage = `Usage: npm run admin -- COMMAND

  create --email ADDRESS [--username NAME] [--full-name NAME]
      Makes an administrator. The password is asked for, or read from standard input.
  keys list | keys rotate [--now] | keys retire KID
      Shows the signing keys, publishes the next one, which signs in ten minutes (or now), or ends one at once.
  list [--q TEXT] [--role ROLE] [--inactive] [--json]
      Shows the users.
  grant USER ROLE | revoke USER ROLE
      Gives a role or takes it away. USER is an e-mail address, a username or an id.
  disable USER | enable USER | logout USER
      Locks a user out and ends every session, lets them in again, or only ends every session.
  import FILE|- [--format jsonl|csv] [--map PRESET] [--map FIELD=COLUMN] [--dry-run] [--report FILE]
      Brings users along with their password hashes; what is refused is listed in the report.
  export [FILE|-]
      Writes every user with the password hash, as JSON lines that import reads.
  migrate
      Brings the schema of the database up to date.
`

const commands: Record<string, Command> = {
  create,
  keys,
  migrate,
  disable,
  enable,
  export: exportUsers,
  grant,
  import: importUsers,
  list,
  logout,
  revoke,
}

let settled: Settled | undefined
try {
  const [name = '', ...args] = process.argv.slice(2)
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (!command) throw new UsageError(usage)
  // The migration needs a database and nothing else.
  const unused = { SECRET_KEY: randomBytes(32).toString('hex'), SECRET_KEY_FILE: '', PUBLIC_URL: 'http://localhost' }
  const variables = name === 'migrate' ? { ...process.env, ...unused } : process.env
  settled = await settle(
    { ...readConfig(variables), logLevel: 'silent', sweep: false, mailWorker: false },
    { share: true },
  )
  const said = await command(settled, args)
  if (said !== '') process.stdout.write(`${said}\n`)
} catch (error) {
  process.stderr.write(`${isUsage(error) || error instanceof Failure ? error.message : explain(error)}\n`)
  process.exitCode = isUsage(error) ? 2 : 1
} finally {
  await settled?.embedded?.stop()
}

function isUsage(error: unknown): error is Error {
  return (
    error instanceof UsageError ||
    (error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS'))
  )
}

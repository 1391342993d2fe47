import { type Command, UsageError } from './admin/command.ts'
import { create } from './admin/create.ts'
import { migrate } from './admin/migrate.ts'
import { readConfig } from './config.ts'
import { explain } from './explain.ts'
import { settle, type Settled } from './settle.ts'

const usage = `Usage: npm run admin -- COMMAND

  create --email ADDRESS [--username NAME] [--full-name NAME]
      Makes an administrator. The password is asked for, or read from standard input.
  migrate
      Brings the schema of the database up to date.
`

const commands: Record<string, Command> = { create, migrate }

let settled: Settled | undefined
try {
  const [name = '', ...args] = process.argv.slice(2)
  const command = commands[name]
  if (!command) throw new UsageError(usage)
  settled = await settle({ ...readConfig(process.env), logLevel: 'silent', sweep: false }, { share: true })
  process.stdout.write(`${await command(settled, args)}\n`)
} catch (error) {
  process.stderr.write(`${isUsage(error) ? error.message : explain(error)}\n`)
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

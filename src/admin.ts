import { randomBytes } from 'node:crypto'
import { commands, overview } from './admin/commands.ts'
import { Failure, UsageError } from './admin/failure.ts'
import { readConfig } from './config.ts'
import { explain } from './explain.ts'
import { settle, type Settled } from './settle.ts'

let settled: Settled | undefined
try {
  const said = await obey(process.argv.slice(2))
  if (said !== '') process.stdout.write(`${said.trimEnd()}\n`)
} catch (error) {
  const isOurs = error instanceof UsageError || error instanceof Failure
  process.stderr.write(`${(isOurs ? error.message : explain(error)).trimEnd()}\n`)
  process.exitCode = error instanceof UsageError ? 2 : 1
} finally {
  await settled?.embedded?.stop()
}
// What a lost database leaves behind would keep the process alive.
if (process.exitCode !== undefined) process.exit()

async function obey([name = '', ...args]: readonly string[]): Promise<string> {
  if (asksForHelp(name) || name === 'help') return overview
  if (name === '') throw new UsageError(overview)
  const command = commands.get(name)
  if (!command) throw new UsageError(`There is no command ${name}; npm run admin -- --help lists them.`)
  if (args.some(asksForHelp)) return command.help
  const run = command.prepare(args)
  // The migration needs a database and nothing else.
  const unused = { SECRET_KEY: randomBytes(32).toString('hex'), SECRET_KEY_FILE: '', PUBLIC_URL: 'http://localhost' }
  const config = readConfig(name === 'migrate' ? { ...process.env, ...unused } : process.env)
  settled = await settle(config, { share: true })
  return run(settled)
}

function asksForHelp(word: string): boolean {
  return word === '--help' || word === '-h'
}

import { randomBytes } from 'node:crypto'
import type { Io } from './command.ts'
import { commands, overview } from './commands.ts'
import { Failure, UsageError } from './failure.ts'

type Variables = Readonly<Record<string, string | undefined>>

/** Does what the words of a command line say, by the settings in `environment`; resolves to the exit code. */
export async function runCommand(words: readonly string[], environment: Variables, io: Io): Promise<0 | 1 | 2> {
  try {
    const said = await answerTo(words, environment, io)
    if (said !== '') io.stdout.write(`${said.trimEnd()}\n`)
    return 0
  } catch (error) {
    const isOurs = error instanceof UsageError || error instanceof Failure
    const sentence = isOurs ? error.message : (await import('#src/describe-error.ts')).describeError(error)
    io.stderr.write(`${sentence.trimEnd()}\n`)
    return error instanceof UsageError ? 2 : 1
  }
}

async function answerTo([name = '', ...args]: readonly string[], environment: Variables, io: Io): Promise<string> {
  if (asksForHelp(name) || name === 'help') return overview
  if (name === '') throw new UsageError(overview)
  const command = commands.get(name)
  if (!command) throw new UsageError(`There is no command ${name}; npm run admin -- --help lists them.`)
  if (args.some(asksForHelp)) return command.help
  const run = command.prepare(args)
  // The migration needs a database and nothing else.
  const { config, embedded } = await completed(name === 'migrate' ? { ...environment, ...unused() } : environment)
  try {
    return await run({ config, io })
  } finally {
    await embedded?.stop()
  }
}

function asksForHelp(word: string): boolean {
  return word === '--help' || word === '-h'
}

function unused(): Variables {
  return { SECRET_KEY: randomBytes(32).toString('hex'), SECRET_KEY_FILE: '', PUBLIC_URL: 'http://localhost' }
}

/** Loaded here, because help and faults of the command line take no settings. */
async function completed(environment: Variables) {
  const [{ readConfig }, { completeConfig }] = await Promise.all([
    import('#src/config.ts'),
    import('#src/complete-config.ts'),
  ])
  return completeConfig(readConfig(environment), { share: true })
}

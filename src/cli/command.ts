import type { Readable, Writable } from 'node:stream'
import { parseArgs, type ParseArgsOptionDescriptor } from 'node:util'
import type { AppConfig } from '#src/app.ts'
import { codeOf, UsageError } from './failure.ts'

/** The streams of a process, or others in their place. */
export interface Io {
  readonly stdin: Readable & { readonly isTTY?: boolean }
  readonly stdout: Writable
  readonly stderr: Writable & { readonly isTTY?: boolean }
}

/** What a command works with. */
export interface Context {
  readonly config: AppConfig
  readonly io: Io
}

interface Option extends ParseArgsOptionDescriptor {
  /** The name of its value in the usage, such as `FILE`. */
  readonly value?: string
  readonly required?: true
  readonly says: string
}
type Options = Readonly<Record<string, Option>>
type Values<O extends Options> = ReturnType<typeof parseArgs<{ options: O }>>['values']
type Operands<P extends readonly string[]> = {
  [K in keyof P]: P[K] extends `[${string}]` ? string | undefined : string
}

/** Resolves to what is printed; throws `UsageError` (exit code 2) or anything (1). */
type Run<P extends readonly string[], O extends Options> = (
  context: Context,
  operands: Operands<P>,
  values: Values<O>,
) => Promise<string>

interface Table<P extends readonly string[], O extends Options> {
  readonly name: string
  /** What stands after the name, in order; those in brackets may be left out. */
  readonly operands?: P
  readonly options?: O
  readonly says: string
  /** Loads what does it, and all that this needs. */
  readonly load: () => Promise<Run<NoInfer<P>, NoInfer<O>>>
}

/** One command of `npm run admin`. */
export interface Entry {
  /** How it is called, such as `grant USER ROLE`. */
  readonly synopsis: string
  readonly says: string
  readonly help: string
  /** Reads the arguments; throws `UsageError` before anything is done. */
  readonly prepare: (args: readonly string[]) => (context: Context) => Promise<string>
}

/** Makes a command of a table from which its arguments are read and its help is printed. */
export function command<const P extends readonly string[] = [], const O extends Options = {}>(
  table: Table<P, O>,
): Entry {
  const { name, says, operands: wanted = [], options = {} as O } = table
  const synopsis = [name, ...wanted, ...Object.entries(options).map(synopsisOf)].join(' ')
  const usage = `Usage: npm run admin -- ${synopsis}\n`
  const help = [usage, `${says}\n`, ...Object.entries(options).map(explained)].join('\n')
  return {
    synopsis,
    says,
    help,
    prepare: (args) => {
      const { values, positionals } = parsed(args, options, usage)
      const fault = missing(wanted, positionals) ?? absent(options, values)
      if (fault !== undefined) throw new UsageError(`${fault}\n${usage}`)
      return async (context) => {
        const run = await table.load()
        return run(context, positionals as unknown as Operands<P>, values as Values<O>)
      }
    },
  }
}

function parsed(args: readonly string[], options: Options, usage: string) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true })
  } catch (error) {
    if (!codeOf(error).startsWith('ERR_PARSE_ARGS')) throw error
    const [sentence = ''] = (error as Error).message.split('. ')
    throw new UsageError(`${sentence}.\n${usage}`)
  }
}

function missing(wanted: readonly string[], given: readonly string[]): string | undefined {
  const lacking = wanted.slice(given.length).find((operand) => !operand.startsWith('['))
  if (lacking !== undefined) return `${lacking} is missing.`
  return given.length > wanted.length ? `${given[wanted.length]} is one too many.` : undefined
}

function absent(options: Options, values: Record<string, unknown>): string | undefined {
  const lacking = Object.keys(options).find((name) => options[name]?.required && values[name] === undefined)
  return lacking === undefined ? undefined : `--${lacking} is missing.`
}

function synopsisOf([name, option]: [string, Option]): string {
  return option.required ? flagOf(name, option) : `[${flagOf(name, option)}]`
}

function explained([name, option]: [string, Option]): string {
  return `  ${flagOf(name, option).padEnd(22)}  ${option.says}\n`
}

const flagOf = (name: string, { value }: Option) => (value === undefined ? `--${name}` : `--${name} ${value}`)

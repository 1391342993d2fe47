import { readFileSync } from 'node:fs'
import { type TSchema, type TUnsafe, Type } from 'typebox'
import { Value } from 'typebox/value'

export type Variables = Readonly<Record<string, string | undefined>>

/** What the documents say of a setting, and what is special about it. */
interface About<V> {
  /** Its meaning, for the table of the README. */
  readonly says: string
  /** What holds without it, for the README, where there is no default. */
  readonly without?: string
  /** The comment above it in `.env.example`; settings with the same comment stand together. */
  readonly example?: string
  /** It may hold a secret: it can also be read from the file that `<NAME>_FILE` names. */
  readonly secret?: true
  /** Another name that it may have. */
  readonly also?: string
  /** Says what is wrong with a value of the right form, without showing it. */
  readonly fault?: (value: NonNullable<V>) => string | undefined
}

/** One environment variable: its form and default, what is said of it, and what is made of it. */
export interface Setting<T = unknown> extends Omit<About<never>, 'fault'> {
  readonly name: string
  readonly schema: TSchema
  readonly fault?: (value: never) => string | undefined
  readonly read: (value: never) => T
}

/** What a group knows of the others, and where it says what is wrong. */
export interface Place {
  readonly production: boolean
  readonly variables: Variables
  readonly faults: string[]
  readonly warnings: string[]
}

type Settings = Readonly<Record<string, Setting>>
type ValuesOf<R extends Settings> = { readonly [K in keyof R]: R[K] extends Setting<infer T> ? T : never }

/** The settings of one owner, by the names that it knows them by. */
export interface Group<C extends object = object> {
  readonly settings: Settings
  /** Makes the group's part of the config of the values that were read. */
  readonly combine: (values: never, place: Place) => C
}

/** What `.env.example` says of secrets that are made for the purpose. */
export const howToMakeOne = 'Each of its own: openssl rand -hex 32'

/** Declares the settings of one owner; `combine` judges them together. */
export function group<const R extends Settings>(settings: R): Group<ValuesOf<R>>
export function group<const R extends Settings, C extends object>(
  settings: R,
  combine: (values: ValuesOf<R>, place: Place) => C,
): Group<C>
export function group(settings: Settings, combine: Group['combine'] = (values) => values): Group {
  return { settings, combine }
}

/** Declares one setting; `read` makes of its value what the service works with. */
export function setting<V, T = V>(
  name: string,
  schema: TUnsafe<V>,
  about: About<V> & { readonly read?: (value: V) => T },
): Setting<NoInfer<T>> {
  return { name, schema, ...about, read: about.read ?? ((value: never) => value) }
}

export const oneOf = <const T extends string>(values: readonly T[], byDefault: T) =>
  Type.Unsafe<T>({ type: 'string', enum: values, default: byDefault })
export const whole = (minimum: number, maximum: number, byDefault: number) =>
  Type.Unsafe<number>({ type: 'integer', minimum, maximum, default: byDefault })
export const text = (byDefault: string) => Type.Unsafe<string>({ type: 'string', default: byDefault })
export const optional = (pattern?: string) =>
  Type.Unsafe<string | undefined>({ type: 'string', ...(pattern === undefined ? {} : { pattern }) })

/** A setting that is on until it is set to `off`. */
export function switchedOn(name: string, about: About<'on' | 'off'>): Setting<boolean> {
  return setting(name, oneOf(['on', 'off'], 'on'), { ...about, read: (value) => value === 'on' })
}

/** The items of a list with commas. */
export function listOf(text: string | undefined): string[] {
  return (text ?? '').split(',').flatMap((item) => item.trim() || [])
}

/** The variables with their other names, and with what the files hold that `<NAME>_FILE` names. */
export function fromFiles(settings: readonly Setting[], variables: Variables, faults: string[]): Variables {
  const result: Record<string, string | undefined> = { ...variables }
  for (const { name, also } of settings) if (also !== undefined) result[name] = variables[name] || variables[also]
  for (const { name } of settings.filter(({ secret }) => secret)) {
    const file = variables[`${name}_FILE`]
    if (!file) continue
    if (result[name]) faults.push(`${name}: is given twice, as itself and as ${name}_FILE`)
    try {
      result[name] = readFileSync(file, 'utf8').trimEnd()
    } catch {
      faults.push(`${name}_FILE: the file cannot be read`)
    }
  }
  return result
}

/** What was set, or the default; a value of the wrong form stays as it is, so that the rules go on to find the others. */
export function valueOf({ name, schema }: Setting, variables: Variables, faults: string[]): unknown {
  const text = variables[name]
  const value = text ? parsed(schema, text) : Reflect.get(schema, 'default')
  if (text && !Value.Check(schema, value)) faults.push(`${name}: ${expectationOf(schema)}`)
  return value
}

/** A group's part of the config. */
export function configOf({ settings, combine }: Group, values: ReadonlyMap<string, unknown>, place: Place): object {
  const own: Record<string, unknown> = {}
  for (const [key, { name, fault, read }] of Object.entries(settings)) {
    const value = values.get(name)
    const sentence = value === undefined ? undefined : fault?.(value as never)
    if (sentence !== undefined) place.faults.push(`${name}: ${sentence}`)
    own[key] = read(value as never)
  }
  return Object.freeze(combine(own as never, place))
}

function parsed(schema: TSchema, text: string): unknown {
  const type: unknown = Reflect.get(schema, 'type')
  if (type === 'integer') return /^\d{1,9}$/.test(text) ? Number(text) : text
  if (type === 'boolean') return { true: true, '1': true, false: false, '0': false }[text.toLowerCase()] ?? text
  return text
}

function expectationOf(schema: TSchema): string {
  const { type, minimum, maximum, pattern, enum: values } = schema as Record<string, unknown>
  if (type === 'integer') return `must be a whole number from ${String(minimum)} to ${String(maximum)}`
  if (type === 'boolean') return 'must be true or false'
  if (Array.isArray(values)) return `must be one of ${values.join(', ')}`
  return `must match ${String(pattern)}`
}

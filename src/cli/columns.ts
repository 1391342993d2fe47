import { UsageError } from './failure.ts'

const fields = [
  'email',
  'username',
  'full_name',
  'roles',
  'is_admin',
  'is_active',
  'created_at',
  'email_verified',
  'password_hash',
] as const
export type Field = (typeof fields)[number]

const hash = { password_hash: ['hashed_password', 'password'] }
const presets: Readonly<Record<string, Readonly<Partial<Record<Field, readonly string[]>>>>> = {
  latchkey: {},
  kanban: { ...hash, roles: ['role'] },
  'llm-optimizer': { ...hash, full_name: ['name'] },
  'ai-chat': { ...hash, full_name: ['name'] },
  'auth-signup': { ...hash, email_verified: ['is_verified'] },
  'auth-register': { ...hash, email_verified: ['is_verified'] },
  'fastapi-users': { ...hash, email_verified: ['is_verified'], is_admin: ['is_superuser'] },
}

/** How the services that people come from are likely to name their columns. */
export const presetNames = Object.keys(presets)

/** Which column each field comes from. */
export interface Columns {
  /** For each field the columns that it may come from, the likeliest first; its own name is the last. */
  readonly of: ReadonlyArray<readonly [Field, readonly string[]]>
  /** Columns that somebody named, so that they have to be there. */
  readonly named: readonly string[]
}

/** Reads the words of `--map`, each the name of a preset or `FIELD=COLUMN`; throws `UsageError`. */
export function columnsOf(words: readonly string[]): Columns {
  const map: Partial<Record<Field, readonly string[]>> = {}
  const named: string[] = []
  for (const word of words) {
    const [name = '', column] = word.split('=', 2)
    if (column === undefined) {
      if (!Object.hasOwn(presets, name))
        throw new UsageError(`--map is one of ${presetNames.join(', ')}, or FIELD=COLUMN`)
      for (const [field, columns] of Object.entries(presets[name] ?? {})) prepend(field as Field, columns)
    } else {
      if (!isField(name)) throw new UsageError(`--map: there is no field ${name}; there are ${fields.join(', ')}`)
      prepend(name, [column])
      named.push(column)
    }
  }
  return { of: fields.map((field) => [field, [...(map[field] ?? []), field]] as const), named }

  function prepend(field: Field, columns: readonly string[]): void {
    map[field] = [...columns, ...(map[field] ?? [])]
  }
}

const isField = (name: string): name is Field => (fields as readonly string[]).includes(name)

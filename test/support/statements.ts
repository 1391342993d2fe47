import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type postgres from 'postgres'
import type { Compiled } from '#src/db/statement.ts'

interface DescribedStatement {
  /** Types by name. */
  readonly columns: Readonly<Record<string, string>>
  /** Name and type of each, in their order: one field may be several. */
  readonly parameters: readonly (readonly [string, string])[]
}

/** The names of the types of a database, by number. */
export async function typeNames(sql: postgres.Sql): Promise<Map<number, string>> {
  const rows = await sql<{ oid: number; name: string }[]>`select oid, typname as name from pg_type`
  return new Map(rows.map(({ oid, name }) => [oid, name.startsWith('_') ? `${name.slice(1)}[]` : name]))
}

/** Has the server prepare a statement, and resolves to what it says of it. */
export async function describeStatement(
  sql: postgres.Sql,
  { text, names }: Compiled,
  typeNames: ReadonlyMap<number, string>,
): Promise<DescribedStatement> {
  const { columns, types } = await sql.unsafe(text).describe()
  const nameOf = (type: number | undefined) => typeNames.get(type ?? 0) ?? `type ${type}`
  return {
    // Nothing is said of the columns of a statement that has none.
    columns: Object.fromEntries(((columns as typeof columns | undefined) ?? []).map((c) => [c.name, nameOf(c.type)])),
    parameters: names.map((name, i) => [name, nameOf(types[i])] as const),
  }
}

/** What a parameter of a PostgreSQL type may be given. */
const takes: Readonly<Record<string, string>> = {
  int4: 'number',
  int8: 'number | string',
  float8: 'number',
  text: 'string',
  uuid: 'string',
  bool: 'boolean',
  bytea: 'Buffer',
  'text[]': 'readonly string[]',
  'uuid[]': 'readonly string[]',
  'int4[]': 'readonly number[]',
}

const verdict = `
type InputOf<S> = S extends { readonly types?: (input: infer Input) => unknown } ? Input : never
type Fault<Name extends string, Input, Taken> = {
  [K in keyof Input & string]: K extends keyof Taken
    ? Input[K] extends Taken[K] | null ? never : \`\${Name}: \${K} is of another type\`
    : \`\${Name}: \${K} is not used\`
}[keyof Input & string]
type Verdict<Name extends string, S, Taken> = [Fault<Name, InputOf<S>, Taken>] extends [never] ? 'fits' : Fault<Name, InputOf<S>, Taken>
`

interface Asked {
  readonly file: string
  readonly name: string
  readonly parameters: DescribedStatement['parameters']
}

/** What the compiler says against the inputs of statements: fields that no parameter uses, or one of another type. */
export function faultsOfInputs(asked: readonly Asked[]): string[] {
  const lines = asked.map(({ file, name, parameters }, i) => {
    const taken = parameters.map(([field, type]) => `{ ${field}: ${takes[type] ?? `'${type}'`} }`)
    const from = JSON.stringify(join(process.cwd(), file))
    return `const s${i}: Verdict<'${name}', typeof import(${from}).${name}, ${taken.join(' & ') || '{}'}> = 'fits'`
  })
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-inputs-'))
  try {
    writeFileSync(join(folder, 'inputs.ts'), `${[verdict, ...lines].join('\n')}\nexport {}\n`)
    const compilerOptions = {
      typeRoots: [join(process.cwd(), 'node_modules/@types')],
      tsBuildInfoFile: join(folder, 'built.json'),
    }
    const project = {
      extends: join(process.cwd(), 'tsconfig.json'),
      compilerOptions,
      files: ['inputs.ts'],
      include: [],
    }
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(project))
    const tsc = join(process.cwd(), 'node_modules/typescript/lib/tsc.js')
    const { stdout, stderr } = spawnSync(process.execPath, [tsc, '-p', folder, '--pretty', 'false'], {
      encoding: 'utf8',
    })
    return (stdout + stderr).split('\n').filter(Boolean)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

// In parts, here and wherever it is used: the whole takes longer to load than the rest of a command.
import { is } from 'drizzle-orm/entity'
import { PgDialect } from 'drizzle-orm/pg-core/dialect'
import type { PgTable } from 'drizzle-orm/pg-core/table'
import { Placeholder, type SQL, sql } from 'drizzle-orm/sql'
import { getTableColumns } from 'drizzle-orm/utils'

/** A parameter of a statement, for a value of this type. */
export type Parameter<Value> = Placeholder<string, Value>

/** The parameters of a statement, one for each field of its input. */
export type Parameters<Input> = { readonly [Name in keyof Input]: Parameter<Input[Name]> }

/** The input of a statement without parameters. */
export type NoInput = object

/** The PostgreSQL types that the driver reads as this type. */
type TypeOf<Value> = Value extends number
  ? 'int2' | 'int4' | 'float8'
  : Value extends string
    ? 'text' | 'varchar' | 'uuid' | 'int8'
    : Value extends boolean
      ? 'bool'
      : Value extends Date
        ? 'timestamptz'
        : Value extends Buffer
          ? 'bytea'
          : Value extends readonly string[]
            ? 'text[]' | 'uuid[]'
            : 'json' | 'jsonb'

type NoColumns = Readonly<Record<string, never>>

/** The columns of a row and their PostgreSQL types; of a statement that returns nothing, none. */
export type RowTypes<Row> = [Row] extends [never]
  ? NoColumns
  : { readonly [Name in keyof Row]-?: TypeOf<NonNullable<Row[Name]>> }

/** SQL as the driver takes it. */
export interface Compiled {
  readonly text: string
  /** The text between the parameters: one array for ever, because the driver remembers each that it has seen fail. */
  readonly strings: TemplateStringsArray
  /** Of the placeholders, in the order of the parameters. */
  readonly names: readonly string[]
  /** Safe to send again when a connection was lost and nobody knows whether it ran. */
  readonly repeatable: boolean
}

/** One SQL statement with named parameters, compiled once, prepared by name on each connection. */
export interface Statement<Input extends object, Row> extends Compiled {
  /** What it claims of its columns; a test compares that with what the server says. */
  readonly row: RowTypes<Row>
  readonly types?: (input: Input) => Row
}

const dialect = new PgDialect()
const parameters: unknown = new Proxy({}, { get: (_, name) => sql.placeholder(String(name)) })

/** Compiles a Drizzle `sql` template, whose parameters are the fields of the input; `row` has the types of its columns. */
export function statement<Input extends object, Row>(
  build: ($: Parameters<Input>) => SQL,
  row: RowTypes<Row>,
  { repeatable = false } = {},
): Statement<Input, Row> {
  const { sql: text, params } = dialect.sqlToQuery(build(parameters as Parameters<Input>))
  const names = params.map((param) => {
    if (!is(param, Placeholder)) throw new Error(`a value in a statement that takes parameters only: ${text}`)
    return param.name
  })
  const strings = text.split(/\$\d+/)
  if (strings.length !== names.length + 1) throw new Error(`a dollar sign in a statement: ${text}`)
  return { text, strings: Object.assign(strings, { raw: strings }), names, repeatable, row }
}

/** The values of a statement's parameters; throws when one is missing, which is a mistake of the caller. */
export function valuesOf({ names }: Pick<Compiled, 'names'>, input: object): never[] {
  const values = input as Record<string, unknown>
  return names.map((name) => {
    if (values[name] === undefined) throw new TypeError(`the parameter ${name} of a statement is missing`)
    return values[name] as never
  })
}

/** The select list of a table, each column under its TypeScript name. */
export function columns(table: PgTable, alias: string, names: readonly string[]): SQL {
  const wanted = Object.entries(getTableColumns(table)).filter(([name]) => names.includes(name))
  return sql.join(
    wanted.map(
      ([name, column]) => sql`${sql.identifier(alias)}.${sql.identifier(column.name)} as ${sql.identifier(name)}`,
    ),
    sql`, `,
  )
}

const shortNames = new Map([
  ['integer', 'int4'],
  ['boolean', 'bool'],
  ['timestamp with time zone', 'timestamptz'],
])

/** The types of that select list. */
export function columnTypes<Table extends PgTable, Name extends keyof Table['$inferSelect'] & string>(
  table: Table,
  names: readonly Name[],
): RowTypes<Pick<Table['$inferSelect'], Name>> {
  const ofTable = getTableColumns(table)
  const types = names.map((name) => {
    const type = ofTable[name]?.getSQLType() ?? ''
    return [name, shortNames.get(type) ?? type]
  })
  return Object.fromEntries(types) as RowTypes<Pick<Table['$inferSelect'], Name>>
}

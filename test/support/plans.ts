import type postgres from 'postgres'
import type { Compiled } from '#src/db/statement.ts'

/** How a statement comes to rows of a table. */
export interface Access {
  readonly table: string
  /** The columns that are compared with one value, and that value: `$name` of a parameter, or as the plan writes it. */
  readonly keys: ReadonlyMap<string, string>
  /** Reads what it finds by no key. */
  readonly isScan: boolean
  /** Writes new rows; `keys` then has the first column. */
  readonly isInsert: boolean
}

/** In the place of a table: the rows that a function makes of one value, as `unnest` does. */
export const listed = 'values of a list'

interface Plan {
  readonly 'Node Type': string
  readonly 'Parent Relationship'?: string
  readonly 'Relation Name'?: string
  readonly Operation?: string
  readonly Output?: readonly string[]
  readonly 'Index Cond'?: string
  readonly Filter?: string
  readonly Plans?: readonly Plan[]
}

/** The accesses of a statement, as the planner would run it for any values whatever. */
export async function accessesOf(sql: postgres.Sql, { text, names }: Compiled): Promise<Access[]> {
  await sql.unsafe(`prepare tried as ${text}`)
  try {
    const given = names.length > 0 ? `(${names.map(() => 'null').join(', ')})` : ''
    const [row] = await sql.unsafe<[{ 'QUERY PLAN': [{ Plan: Plan }] }]>(
      `explain (verbose, format json) execute tried${given}`,
    )
    const named = (value: string) => value.replace(/\$(\d+)/g, (_, n) => `$${names[Number(n) - 1] ?? 'derived'}`)
    return accessesIn(row['QUERY PLAN'][0].Plan, named)
  } finally {
    await sql.unsafe('deallocate tried')
  }
}

function accessesIn(plan: Plan, named: (value: string) => string): Access[] {
  const { 'Relation Name': table, Plans: plans = [], Operation: operation } = plan
  const below = plans.flatMap((part) => accessesIn(part, named))
  if (plan['Node Type'] === 'Function Scan') return [{ table: listed, keys: new Map(), isScan: true, isInsert: false }]
  if (table === undefined) return below
  if (operation === 'Insert') {
    const value = plans.find((part) => part['Parent Relationship'] === 'Outer')?.Output?.[0] ?? ''
    return [{ table, keys: new Map([['new', named(value)]]), isScan: false, isInsert: true }, ...below]
  }
  if (operation) return below
  const conditions = conditionsOf(plan)
  const keys = new Map(conditions.flatMap((condition) => equalityIn(named(condition))))
  return [{ table, keys, isScan: conditions.length === 0, isInsert: false }, ...below]
}

/** Those of its index, or of all indexes that it puts together. */
function conditionsOf({ 'Node Type': type, 'Index Cond': own, Plans: plans = [] }: Plan): string[] {
  if (own !== undefined) return [own]
  const parts = plans.filter((part) => part['Node Type'].startsWith('Bitmap')).map(conditionsOf)
  // Of an OR each part has to have a key.
  return type === 'BitmapOr' && parts.some((conditions) => conditions.length === 0) ? [] : parts.flat()
}

function equalityIn(condition: string): [string, string][] {
  return condition.split(' AND ').flatMap((part): [string, string][] => {
    const [left, right] = part.split(' = ')
    if (left === undefined || right === undefined) return []
    const isFirst = /^\(*(lower\(\(+)?\w+\.\w+/.test(left)
    const [column, value] = isFirst ? [left, right] : [right, left]
    const name = /\.(\w+)/.exec(column)?.[1] ?? column
    const key = column.includes('lower(') ? `lower(${name})` : name
    return [[key, /^(?:lower)?\(*([^()]+)/.exec(value)?.[1] ?? value]]
  })
}

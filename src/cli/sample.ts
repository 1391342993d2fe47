import type { RowReader } from './imported-user.ts'
import type { Columns } from './columns.ts'
import { Failure } from './failure.ts'
import type { Row } from './rows.ts'

/** Rows that are looked at before the first is imported. */
const sampleSize = 1000

type Values = Extract<Row, { values: unknown }>['values']

/** The first rows, and all of them, these included. */
export async function sampled(rows: AsyncGenerator<Row, void, undefined>) {
  const first: Row[] = []
  while (first.length < sampleSize) {
    const { value, done } = await rows.next()
    if (done) break
    first.push(value)
  }
  async function* all(): AsyncGenerator<Row, void, undefined> {
    yield* first
    yield* rows
  }
  return { sample: first.flatMap((row) => ('values' in row ? [row.values] : [])), rows: all() }
}

/** Throws `Failure` when a column that was named is not there, or when users would lose their passwords. */
export function requireColumns(
  sample: readonly Values[],
  { columns, reader, withoutPasswords }: { columns: Columns; reader: RowReader; withoutPasswords: boolean },
): void {
  if (sample.length === 0) return
  const present = new Set(sample.flatMap((row) => Object.keys(row)))
  const absent = columns.named.find((column) => !present.has(column))
  if (absent !== undefined)
    throw new Failure(`--map: there is no column ${absent}; the columns are ${[...present].slice(0, 50).join(', ')}.`)
  if (withoutPasswords) return
  const unused = sample.map((row) => reader.unusedHash(row)).find((column) => column !== undefined)
  if (unused !== undefined)
    throw new Failure(
      `The column ${unused} seems to hold the password hashes, and no field takes it: add a preset or --map password_hash=${unused}. To make accounts without a password, add --without-passwords.`,
    )
  if (!sample.some((row) => reader.has('password_hash', row)))
    throw new Failure(
      'There is no column of password hashes: name it by --map password_hash=COLUMN. To make accounts without a password, add --without-passwords.',
    )
}

import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import type { Readable } from 'node:stream'
import { BulkImport } from '#src/features/accounts/bulk.ts'
import { RowReader } from './imported-user.ts'
import { importUsersFrom, type Done } from './import-users.ts'
import { columnsOf } from './columns.ts'
import type { Context, Io } from './command.ts'
import { requireSchema } from './database.ts'
import { Failure, fileFault, UsageError } from './failure.ts'
import { reportTo } from './report.ts'
import { csvRows, jsonRows, type Row } from './rows.ts'
import { requireColumns, sampled } from './sample.ts'

interface Values {
  readonly format?: string | undefined
  readonly map?: readonly string[] | undefined
  readonly update?: boolean | undefined
  readonly 'without-passwords'?: boolean | undefined
  readonly 'dry-run'?: boolean | undefined
  readonly report?: string | undefined
}

export async function importUsers({ config, io }: Context, [file]: readonly [string], values: Values): Promise<string> {
  const { format = file.toLowerCase().endsWith('.csv') ? 'csv' : 'jsonl' } = values
  if (format !== 'jsonl' && format !== 'csv') throw new UsageError('--format is jsonl or csv')
  const columns = columnsOf(values.map ?? [])
  const { 'without-passwords': withoutPasswords = false, 'dry-run': dryRun = false, update = false } = values
  const reader = new RowReader(columns, { withoutPasswords })

  const input = await opened(file, io)
  const { sample, rows } = await sampled(readable(file, format === 'csv' ? csvRows(input) : jsonRows(input)))
  requireColumns(sample, { columns, reader, withoutPasswords })
  await requireSchema(config)
  const report = await reportTo(values.report, io)
  const bulk = await BulkImport.open(config.database.url, { dryRun, update })
  const done = await finished(importUsersFrom(rows, { reader, bulk, report, io }), [bulk, report])
  const summary = summaryOf(done, { dryRun, update, unused: reader.unused })
  if (done.rows > 0 && done.rows === done.refused) throw new Failure(`${summary}\nEvery row was refused.`)
  return summary
}

function summaryOf(
  { rows, imported, filled, taken, refused, hashes }: Done,
  { dryRun, update, unused }: { dryRun: boolean; update: boolean; unused: ReadonlySet<string> },
): string {
  const kinds = ['argon2id', 'bcrypt', ...hashes.keys(), 'none']
  const counts = [...new Set(kinds)].map((kind) => `${hashes.get(kind) ?? 0} ${kind}`)
  return [
    `${dryRun ? 'Would import' : 'Imported'} ${imported} users of ${rows} rows; refused: ${refused + taken} (${taken} registered already).`,
    ...(update ? [`${dryRun ? 'Would fill in' : 'Filled in'} what was missing in ${filled} accounts.`] : []),
    `Password hashes: ${counts.join(', ')}.`,
    ...(unused.size > 0 ? [`Columns that were not used: ${[...unused].join(', ')}.`] : []),
  ].join('\n')
}

/** Awaits the work and closes what it wrote to, also when it failed. */
async function finished<T>(work: Promise<T>, outputs: ReadonlyArray<{ close: () => Promise<void> }>): Promise<T> {
  try {
    return await work
  } finally {
    for (const output of outputs) await output.close()
  }
}

async function opened(file: string, { stdin }: Io): Promise<Readable> {
  if (file === '-') return stdin
  const input = createReadStream(file, { highWaterMark: 1 << 18 })
  await once(input, 'open').catch((error: unknown) => {
    throw fileFault(file, 'read', error)
  })
  return input
}

async function* readable(file: string, rows: AsyncIterable<Row>): AsyncGenerator<Row, void, undefined> {
  try {
    yield* rows
  } catch (error) {
    throw error instanceof Failure ? error : fileFault(file === '-' ? 'Standard input' : file, 'read', error)
  }
}

import type { Readable } from 'node:stream'
import { parse } from 'csv-parse'
import { Failure } from './failure.ts'

/** A row of a file by the names of its columns, or why it cannot be read. */
export type Row = { readonly line: number } & (
  | { readonly values: Readonly<Record<string, unknown>> }
  | { readonly reason: string }
)

const longestRow = 1 << 20

/** The objects of a file of JSON lines. */
export async function* jsonRows(input: Readable): AsyncGenerator<Row, void, undefined> {
  for await (const { line, text } of linesOf(input)) {
    if (text === undefined) yield { line, reason: 'the line is longer than 1 MiB' }
    else if (text.trim() !== '') yield { line, ...parsed(text) }
  }
}

function parsed(text: string): { values: Record<string, unknown> } | { reason: string } {
  if (text.includes('\uFFFD')) return { reason: 'the line is not UTF-8' }
  try {
    const values: unknown = JSON.parse(text)
    if (typeof values === 'object' && values !== null && !Array.isArray(values))
      return { values: values as Record<string, unknown> }
  } catch {
    // Said below.
  }
  return { reason: 'the line is not a JSON object' }
}

/** Lines with their numbers; one that is too long has no text. */
async function* linesOf(input: Readable): AsyncGenerator<{ line: number; text: string | undefined }, void, undefined> {
  input.setEncoding('utf8')
  let line = 0
  let rest = ''
  let isTooLong = false
  const next = (text: string) => ({
    line: ++line,
    text: isTooLong ? undefined : line === 1 ? text.replace(/^\uFEFF/, '') : text,
  })
  for await (const chunk of input as AsyncIterable<string>) {
    const parts = (rest + chunk).split('\n')
    rest = parts.pop() ?? ''
    for (const part of parts) {
      yield next(part)
      isTooLong = false
    }
    if (rest.length > longestRow) isTooLong = true
    if (isTooLong) rest = ''
  }
  if (rest !== '' || isTooLong) yield next(rest)
}

/** The records of a CSV file (RFC 4180) whose first line names the columns. */
export async function* csvRows(input: Readable): AsyncGenerator<Row, void, undefined> {
  let refused: Row[] = []
  let hasHeader = false
  const parser = parse({
    bom: true,
    columns: (names: string[]) => {
      hasHeader = true
      return names.map((name) => name.trim())
    },
    info: true,
    skip_empty_lines: true,
    skip_records_with_error: true,
    max_record_size: longestRow,
    on_skip: (error) => {
      // The next row would be taken for the names of the columns.
      if (!hasHeader)
        parser.destroy(new Failure(`The first line of the CSV file cannot be read (${error?.code ?? 'unknown'}).`))
      refused.push({ line: Number(error?.['lines'] ?? 0), reason: `the row is not CSV (${error?.code ?? 'unknown'})` })
      return undefined
    },
  })
  input.on('error', (error) => parser.destroy(error))
  type Record_ = { record: Record<string, unknown>; info: { lines: number } }
  for await (const { record, info } of input.pipe(parser) as AsyncIterable<Record_>) {
    const passed = refused
    refused = []
    yield* passed
    const isText = Object.values(record).every((value) => typeof value !== 'string' || !value.includes('\uFFFD'))
    yield isText ? { line: info.lines, values: record } : { line: info.lines, reason: 'the row is not UTF-8' }
  }
  yield* refused
}

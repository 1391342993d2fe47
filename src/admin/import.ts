import { once } from 'node:events'
import { createReadStream, createWriteStream, type WriteStream } from 'node:fs'
import type { Readable } from 'node:stream'
import { parseArgs } from 'node:util'
import { type BroughtUser, BulkImport } from '#src/db/bulk.ts'
import { type ColumnMap, isField, presets, RowReader } from './brought-user.ts'
import { type Command, Failure, requireSchema, shell, UsageError } from './command.ts'
import { csvRows, jsonRows, type Row } from './rows.ts'

const batchSize = 2000
const taken = 'the e-mail address or username is registered already, or was earlier in the file'

const options = {
  format: { type: 'string' },
  map: { type: 'string', multiple: true },
  report: { type: 'string' },
  'dry-run': { type: 'boolean' },
} as const

/** `import FILE|- …`: brings users along, batch by batch; running it again finds them all registered. */
export const importUsers: Command = async ({ config }, args) => {
  const { values, positionals } = parseArgs({ args, options, allowPositionals: true })
  const [file, ...rest] = positionals
  if (file === undefined || rest.length > 0)
    throw new UsageError(
      'import FILE|- [--format jsonl|csv] [--map PRESET] [--map FIELD=COLUMN] [--dry-run] [--report FILE]',
    )
  const { format = file.toLowerCase().endsWith('.csv') ? 'csv' : 'jsonl', 'dry-run': dryRun = false } = values
  if (format !== 'jsonl' && format !== 'csv') throw new UsageError('--format is jsonl or csv')
  const reader = new RowReader(mapOf(values.map ?? []))

  const input = await opened(file)
  const report = await reportTo(values.report)
  await requireSchema(config)
  const bulk = await BulkImport.open(config.databaseUrl, { dryRun })
  try {
    const done = await bring(format === 'csv' ? csvRows(input) : jsonRows(input), reader, bulk, report)
    const unused = reader.unused.size > 0 ? `\nColumns that were not used: ${[...reader.unused].join(', ')}.` : ''
    return `${dryRun ? 'Would import' : 'Imported'} ${done.imported} users of ${done.rows} rows; refused: ${done.rows - done.imported} (${done.taken} registered already).${unused}`
  } finally {
    await bulk.close()
    await report.close()
  }
}

/** Reads, checks and inserts; one batch is under way while the next one is read. */
async function bring(rows: AsyncIterable<Row>, reader: RowReader, bulk: BulkImport, report: Report) {
  const done = { rows: 0, imported: 0, taken: 0 }
  const progress = showProgress(() => done.rows)
  let batch: BroughtUser[] = []
  let underWay: Promise<void> = Promise.resolve()

  const insert = async (users: BroughtUser[]) => {
    const refused = await bulk.insert(users, shell.userAgent)
    done.imported += users.length - refused.size
    done.taken += refused.size
    for (const line of refused) await report.refuse(line, taken)
  }
  const names = new Set<string>()
  const isRepeated = ({ email, username }: BroughtUser) =>
    [email?.toLowerCase(), username?.toLowerCase()].some((name) => name !== undefined && names.has(name))

  try {
    for await (const row of rows) {
      done.rows++
      const user = 'values' in row ? reader.read(row.values, row.line) : row.reason
      if (typeof user === 'string') {
        await report.refuse(row.line, user)
        continue
      }
      if (isRepeated(user)) {
        done.taken++
        await report.refuse(row.line, taken)
        continue
      }
      for (const name of [user.email, user.username]) if (name !== null) names.add(name.toLowerCase())
      if (batch.push(user) < batchSize) continue
      await underWay
      underWay = insert(batch)
      // It is awaited with the next batch; until then a failure must not end the process.
      underWay.catch(() => {})
      batch = []
      names.clear()
    }
    await underWay
    if (batch.length > 0) await insert(batch)
  } finally {
    progress.stop()
  }
  return done
}

function mapOf(words: readonly string[]): ColumnMap {
  const map: Record<string, readonly string[]> = {}
  for (const word of words) {
    const [name = '', column] = word.split('=')
    if (column === undefined) {
      if (!Object.hasOwn(presets, name))
        throw new UsageError(`--map is one of ${Object.keys(presets).join(', ')}, or FIELD=COLUMN`)
      Object.assign(map, presets[name])
    } else if (isField(name)) map[name] = [column, ...(map[name] ?? [])]
    else throw new UsageError(`--map: there is no field ${name}`)
  }
  return map
}

async function opened(file: string): Promise<Readable> {
  if (file === '-') return process.stdin
  const input = createReadStream(file, { highWaterMark: 1 << 18 })
  await once(input, 'open').catch((error: unknown) => unusable(file, error))
  return input
}

interface Report {
  readonly refuse: (line: number, reason: string) => Promise<void>
  readonly close: () => Promise<void>
}

/** JSON lines into a file, or the first few on the terminal. */
async function reportTo(file: string | undefined): Promise<Report> {
  if (file === undefined) {
    let left = 10
    return {
      refuse: async (line, reason) => {
        if (left-- > 0)
          process.stderr.write(`line ${line}: ${reason}${left === 0 ? '\nand more: see --report FILE' : ''}\n`)
      },
      close: async () => {},
    }
  }
  const output: WriteStream = createWriteStream(file, { mode: 0o600 })
  await once(output, 'open').catch((error: unknown) => unusable(file, error))
  return {
    refuse: async (line, reason) => {
      if (!output.write(`${JSON.stringify({ line, reason })}\n`)) await once(output, 'drain')
    },
    close: async () => {
      output.end()
      await once(output, 'close')
    },
  }
}

function unusable(file: string, error: unknown): never {
  throw new Failure(
    `${file} cannot be opened: ${error instanceof Error && 'code' in error ? String(error.code) : 'unknown'}`,
  )
}

function showProgress(rows: () => number): { stop: () => void } {
  if (!process.stderr.isTTY) return { stop: () => {} }
  const timer = setInterval(() => process.stderr.write(`\r${rows()} rows`), 500)
  return {
    stop: () => {
      clearInterval(timer)
      process.stderr.write('\r\u001B[K')
    },
  }
}

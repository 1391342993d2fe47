import { recordEvent, type Origin } from '#src/features/audit/audit.sql.ts'
import { connectAlone } from '#src/db/connect-alone.ts'
import { DatabaseError } from '#src/db/faults.ts'
import { type Statement, valuesOf } from '#src/db/statement.ts'
import { exportPage, importBatch, type LeftOver, pageSize, tryBatch, tryUpdate, updateBatch } from './bulk.sql.ts'

type Alone = ReturnType<typeof connectAlone>

/** A user as a file brings them; `n` tells them from the others of the batch. */
export interface ImportedUser {
  readonly n: number
  readonly email: string | null
  readonly username: string | null
  readonly full_name: string | null
  readonly roles: readonly string[]
  readonly is_active: boolean
  readonly email_verified: boolean
  readonly password_hash: string | null
  /** ISO 8601; null for now. */
  readonly created_at: string | null
}

interface BulkOptions {
  readonly dryRun: boolean
  /** Fills in what accounts lack that are there already. */
  readonly update: boolean
}

/** Many users at a time on a connection of its own; each batch is one statement, in whole or not at all. */
export class BulkImport {
  readonly #connection: Alone
  readonly #options: BulkOptions

  private constructor(connection: Alone, options: BulkOptions) {
    this.#connection = connection
    this.#options = options
  }

  static async open(url: string, options: BulkOptions): Promise<BulkImport> {
    const connection = connectAlone(url)
    if (options.dryRun) await connection.unsafe('create temporary table import_trial (like users including all)')
    return new BulkImport(connection, options)
  }

  /** Resolves, by their `n`, to those that made no account because somebody has the address or the username. */
  async insert(rows: readonly ImportedUser[], userAgent: string): Promise<Map<number, LeftOver>> {
    const { dryRun, update } = this.#options
    const input = { rows: JSON.stringify(rows), userAgent, ip: null, requestId: null }
    const rowsLeft = dryRun
      ? await run(this.#connection, update ? tryUpdate : tryBatch, input)
      : await run(this.#connection, update ? updateBatch : importBatch, input)
    return new Map(rowsLeft.map((row) => [row.n, row]))
  }

  async close(): Promise<void> {
    await this.#connection.end({ timeout: 1 })
  }
}

/** Every user as JSON lines, page by page, after an event that says so; who is registered meanwhile may be missing. */
export async function* exportLines(url: string, origin: Origin): AsyncGenerator<string, void, undefined> {
  const connection = connectAlone(url)
  try {
    await run(connection, recordEvent, { ...origin, type: 'users.exported', userId: null, actorId: null, detail: null })
    for (let after = 0; ;) {
      const page = await run(connection, exportPage, { after })
      if (page.length > 0) yield page.map(({ line }) => `${line}\n`).join('')
      if (page.length < pageSize) return
      after = page.at(-1)?.id ?? after
    }
  } finally {
    await connection.end({ timeout: 1 })
  }
}

/** Far more than a batch takes; the driver by itself would wait for ever. */
const patienceMs = 60_000

async function run<Input extends object, Row>(
  connection: Alone,
  query: Statement<Input, Row>,
  input: Input,
): Promise<Row[]> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(new DatabaseError('DEADLINE_PASSED')), patienceMs)
  try {
    const answer = connection.unsafe(query.text, valuesOf(query, input), { prepare: true })
    return (await Promise.race([answer, late.promise])) as unknown as Row[]
  } finally {
    clearTimeout(timer)
  }
}

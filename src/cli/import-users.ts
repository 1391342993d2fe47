import type { ImportedUser, BulkImport } from '#src/features/accounts/bulk.ts'
import type { RowReader } from './imported-user.ts'
import type { Io } from './command.ts'
import { shell } from './core.ts'
import { databaseFault } from './failure.ts'
import { kindOf } from './password-hash.ts'
import type { Report } from './report.ts'
import type { Row } from './rows.ts'

const batchSize = 2000
const taken = 'the e-mail address or username is registered already, or was earlier in the file'

/** What became of the rows. */
export interface Done {
  rows: number
  imported: number
  /** Accounts that were there and got what they lacked. */
  filled: number
  /** Left out because somebody has the name. */
  taken: number
  /** Left out because the row is no user. */
  refused: number
  /** Of those that were imported or filled in, by kind. */
  readonly hashes: Map<string, number>
}

/** Reads, checks and inserts; one batch is under way while the next one is read. */
export async function importUsersFrom(
  rows: AsyncIterable<Row>,
  { reader, bulk, report, io }: { reader: RowReader; bulk: BulkImport; report: Report; io: Io },
): Promise<Done> {
  const done: Done = { rows: 0, imported: 0, filled: 0, taken: 0, refused: 0, hashes: new Map() }
  const progress = showProgress(() => done.rows, io)
  const names = new Names()
  let batch: ImportedUser[] = []
  let underWay: Promise<void> = Promise.resolve()

  try {
    for await (const row of rows) {
      done.rows++
      const user = 'values' in row ? reader.read(row.values, row.line) : row.reason
      if (typeof user === 'string') {
        done.refused++
        await report.refuse(row.line, user)
        continue
      }
      if (!names.add(user)) {
        done.taken++
        await report.refuse(row.line, taken)
        continue
      }
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

  async function insert(users: ImportedUser[]): Promise<void> {
    const outcomes = await bulk.insert(users, shell.userAgent).catch((error: unknown) => {
      throw databaseFault(error, `${done.imported} users are imported; run the import again for the others.`)
    })
    for (const user of users) {
      const outcome = outcomes.get(user.n)
      if (outcome === undefined) done.imported++
      else if (outcome.filled) done.filled++
      else done.taken++
      if (outcome === undefined || outcome.withHash) count(done.hashes, kindOf(user.password_hash))
      if (outcome?.filled === false) await report.refuse(user.n, taken)
    }
  }
}

/** The names of one batch, which Postgres could not tell apart within one statement. */
class Names {
  readonly #names = new Set<string>()

  /** False when the user has a name that is there. */
  add({ email, username }: ImportedUser): boolean {
    const names = [email, username].flatMap((name) => (name === null ? [] : [name.toLowerCase()]))
    if (names.some((name) => this.#names.has(name))) return false
    for (const name of names) this.#names.add(name)
    return true
  }

  clear(): void {
    this.#names.clear()
  }
}

function count(counts: Map<string, number>, kind: string): void {
  counts.set(kind, (counts.get(kind) ?? 0) + 1)
}

function showProgress(rows: () => number, { stderr }: Io): { stop: () => void } {
  if (!stderr.isTTY) return { stop: () => {} }
  const timer = setInterval(() => stderr.write(`\r${rows()} rows`), 500)
  return {
    stop: () => {
      clearInterval(timer)
      stderr.write('\r\u001B[K')
    },
  }
}

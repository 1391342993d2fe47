import { getTableColumns, is, Placeholder, type SQL, sql } from 'drizzle-orm'
import { PgDialect, type PgTable } from 'drizzle-orm/pg-core'
import postgres from 'postgres'
import { Deadline } from './deadline.ts'
import { asProblem, DatabaseError, mayRunAgain } from './faults.ts'

/** Limits of one statement in milliseconds; together they keep it under 3 s (see docs/architecture.md). */
const limits = { queue: 600, lock: 1500, statement: 1800, deadline: 2300, retry: 300 }
/** Callers that may wait for one connection; more are refused at once. */
const queuePerConnection = 100

type Values = Record<string, unknown>

/** One SQL statement with named placeholders, compiled once, prepared by name on each connection. */
export interface Statement<Input extends Values, Row> {
  readonly text: string
  /** Of the placeholders, in the order of the parameters. */
  readonly names: readonly string[]
  /** Safe to send again when a connection was lost and nobody knows whether it ran. */
  readonly repeatable: boolean
  readonly types?: { input: Input; row: Row }
}

const dialect = new PgDialect()

/** Compiles a Drizzle `sql` template; placeholders (`sql.placeholder('name')`) become the fields of its input. */
export function statement<Input extends Values, Row>(query: SQL, repeatable = false): Statement<Input, Row> {
  const { sql: text, params } = dialect.sqlToQuery(query)
  const names = params.map((param) => {
    if (!is(param, Placeholder)) throw new Error(`a value in a statement that takes placeholders only: ${text}`)
    return param.name
  })
  return { text, names, repeatable }
}

/** The values of a statement's parameters. */
export function valuesOf({ names }: { readonly names: readonly string[] }, input: Values): never[] {
  return names.map((name) => input[name] as never)
}

/** The select list of a table, each column under its TypeScript name. */
export function columns(table: PgTable, alias: string, names?: readonly string[]): SQL {
  const wanted = Object.entries(getTableColumns(table)).filter(([name]) => names?.includes(name) ?? true)
  return sql.join(
    wanted.map(
      ([name, column]) => sql`${sql.identifier(alias)}.${sql.identifier(column.name)} as ${sql.identifier(name)}`,
    ),
    sql`, `,
  )
}

/** The pool, with what postgres.js leaves out: a bounded queue, a deadline for every statement, one retry. */
export class Database {
  #pool: postgres.Sql
  #free: number
  readonly #waiting: Array<() => void> = []
  readonly #deadline = new Deadline(limits.deadline)
  readonly #patience = new Deadline(limits.queue)
  readonly #connect: () => postgres.Sql
  readonly size: number

  constructor(url: string, size: number, onProblem: (message: string) => void = () => {}) {
    this.#connect = () => connect(url, size)
    this.#pool = this.#connect()
    this.#free = size
    this.size = size
    this.onProblem = onProblem
  }

  private readonly onProblem: (message: string) => void

  get inUse(): number {
    return this.size - this.#free
  }

  get queued(): number {
    return this.#waiting.length
  }

  /** Runs a statement and resolves to its rows; throws `Problem` `unavailable` when the database is away or too slow. */
  async rows<Input extends Values, Row>(query: Statement<Input, Row>, input: Input): Promise<Row[]> {
    const values = valuesOf(query, input)
    const started = performance.now()
    try {
      return (await this.#run(query.text, values)) as Row[]
    } catch (error) {
      const inTime = performance.now() - started < limits.retry
      if (!mayRunAgain(error, query.repeatable && inTime)) throw asProblem(error)
    }
    try {
      return (await this.#run(query.text, values)) as Row[]
    } catch (error) {
      throw asProblem(error)
    }
  }

  /** As `rows`, for statements that return at most one. */
  async row<Input extends Values, Row>(query: Statement<Input, Row>, input: Input): Promise<Row | undefined> {
    return (await this.rows(query, input))[0]
  }

  /** Closes every connection, after `seconds` also those in use. */
  async close(seconds = 3): Promise<void> {
    await this.#pool.end({ timeout: seconds })
  }

  #run(text: string, values: never[]): Promise<unknown> {
    if (this.#free === 0) return this.#turn().then(() => this.#send(text, values))
    this.#free--
    return this.#send(text, values)
  }

  #send(text: string, values: never[]): Promise<unknown> {
    const pool = this.#pool
    // The place in the pool is free again when the connection is, which may be after the deadline.
    return this.#deadline.within(
      pool.unsafe(text, values, { prepare: true }),
      () => {
        // The server ends a slow statement itself, sooner; that it did not means the connection is dead: start afresh.
        if (this.#pool !== pool) return
        this.onProblem('the database does not answer; its connections are replaced')
        this.#pool = this.#connect()
        pool.end({ timeout: 0 }).catch(() => {})
      },
      this.#release,
    )
  }

  async #turn(): Promise<void> {
    if (this.#waiting.length >= this.size * queuePerConnection) throw new DatabaseError('POOL_QUEUE_FULL')
    const turn = Promise.withResolvers<void>()
    this.#waiting.push(turn.resolve)
    await this.#patience.within(turn.promise, () => {
      const place = this.#waiting.indexOf(turn.resolve)
      if (place >= 0) this.#waiting.splice(place, 1)
      else this.#release()
    })
  }

  readonly #release = (): void => {
    const next = this.#waiting.shift()
    if (next) next()
    else this.#free++
  }
}

/** A connection for work at the start, alone: it may hold locks and open transactions. */
export function connectAlone(url: string): postgres.Sql {
  return postgres(...addressed(url, { max: 1, onnotice: () => {}, connect_timeout: 10, fetch_types: false }))
}

/** Arrays of words, numbers and UUIDs; declared here, they need no round trip to ask for their types. */
const plainArray: postgres.PostgresType<ReadonlyArray<string | number>> = {
  to: 1009,
  from: [1007, 1009, 2951],
  // In quotes, or the word null would be no word.
  serialize: (items: readonly (string | number)[]) => `{${items.map((item) => `"${item}"`).join(',')}}`,
  parse: (text: string) => text.slice(1, -1).replaceAll('"', '').split(',').filter(Boolean),
}

function connect(url: string, size: number): postgres.Sql {
  const options: Options = {
    max: size,
    onnotice: () => {},
    fetch_types: false,
    types: { plainArray },
    backoff: (retries: number) => Math.min(0.05 * 2 ** retries, 0.5),
    connect_timeout: 2,
    idle_timeout: 60,
    max_lifetime: 1800,
    connection: { application_name: 'latchkey', statement_timeout: limits.statement, lock_timeout: limits.lock },
  }
  return postgres(...addressed(url, options))
}

type Options = NonNullable<Parameters<typeof postgres>[1]>

/** Reads libpq's `?host=/folder` of a Unix socket, which postgres.js takes as an option only. */
function addressed(text: string, options: Options): [string, Options] {
  const url = new URL(text)
  const host = url.searchParams.get('host')
  url.searchParams.delete('host')
  return [url.href, host === null ? options : { ...options, host }]
}

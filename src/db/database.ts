import { Budget } from './budget.ts'
import { clock } from './clock.ts'
import type { Connection } from './connection.ts'
import { Connects } from './connects.ts'
import { addressesOf, type DriverOptions, types } from './driver.ts'
import { asProblem, DatabaseError, isDeadline, isOutOfStep, isReadOnly, mayRunAgain } from './faults.ts'
import { type Compiled, type Statement, valuesOf } from './statement.ts'

/** Limits of one statement in milliseconds (see docs/architecture.md). */
const limits = { queue: 600, lock: 1500, statement: 1800, deadline: 2300 }
/** Callers that may wait for one connection; more are refused at once. */
const queuePerConnection = 100
const idleMs = 60_000
/** A server that goes on to say that it only reads is no reason to connect again and again. */
const moveMs = 1000

const poolOptions: DriverOptions = {
  fetch_types: false,
  types,
  connection: { application_name: 'latchkey', statement_timeout: limits.statement, lock_timeout: limits.lock },
}

/** Runs an attempt of a statement and tells somebody of it. */
export type Follow = (query: Compiled, budget: Budget, attempt: () => Promise<unknown>) => Promise<unknown>

/** The pool: a bounded queue, a time limit for every statement, one more try, pauses between connects that fail. */
export class Database {
  #free: number
  #idle: Connection[] = []
  #isClosed = false
  #movedAt = -Infinity
  readonly #open = new Set<Connection>()
  readonly #waiting: Array<() => void> = []
  readonly #connects: Connects
  readonly #closesIdle: NodeJS.Timeout
  readonly #onProblem: (message: string) => void
  readonly #follow: Follow | undefined
  readonly size: number

  constructor(url: string, size: number, onProblem: (message: string) => void = () => {}, follow?: Follow) {
    this.#connects = new Connects(addressesOf(url, poolOptions))
    this.#free = size
    this.#onProblem = onProblem
    this.#follow = follow
    this.#closesIdle = setInterval(() => this.#closeIdle(performance.now() - idleMs), idleMs / 4).unref()
    this.size = size
  }

  get inUse(): number {
    return this.size - this.#free
  }

  get queued(): number {
    return this.#waiting.length
  }

  /**
   * Runs a statement and resolves to its rows; throws `Problem` `unavailable` when the database is away or too slow and
   * nothing was written, `outcome_unknown` when it may have been. Keeps to the budget of the request.
   */
  async rows<Input extends object, Row>(query: Statement<Input, Row>, input: NoInfer<Input>): Promise<Row[]> {
    const values = valuesOf(query, input)
    const budget = Budget.current ?? new Budget()
    try {
      return (await this.#attempt(query, values, budget)) as Row[]
    } catch (error) {
      if (!mayRunAgain(error, query.repeatable)) throw asProblem(error, query.repeatable)
    }
    try {
      return (await this.#attempt(query, values, budget)) as Row[]
    } catch (error) {
      throw asProblem(error, query.repeatable)
    }
  }

  /** As `rows`, for statements that return at most one. */
  async row<Input extends object, Row>(query: Statement<Input, Row>, input: NoInfer<Input>): Promise<Row | undefined> {
    return (await this.rows(query, input))[0]
  }

  /** Closes every connection, after `seconds` also those in use. */
  async close(seconds = 3): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#closesIdle)
    await Promise.all([...this.#open].map((connection) => connection.close(seconds)))
  }

  #attempt(query: Compiled, values: never[], budget: Budget): Promise<unknown> {
    if (this.#follow === undefined) return this.#try(query, values, budget)
    return this.#follow(query, budget, () => this.#try(query, values, budget))
  }

  async #try(query: Compiled, values: never[], budget: Budget): Promise<unknown> {
    budget.requireRest()
    const connection = this.#takeIdle() ?? (await this.#take(budget))
    try {
      return await this.#run(connection, query, values, budget)
    } finally {
      this.#giveBack(connection)
    }
  }

  #takeIdle(): Connection | undefined {
    // Without a free place an idle connection is on its way to who waited for it.
    const connection = this.#free > 0 ? this.#idle.pop() : undefined
    if (connection) this.#free--
    return connection
  }

  async #take(budget: Budget): Promise<Connection> {
    const asked = clock.now
    try {
      if (this.#free > 0) this.#free--
      else await this.#turn()
      return this.#idle.pop() ?? (await this.#connect(budget.left - (clock.now - asked)))
    } finally {
      budget.spend(clock.now - asked)
    }
  }

  async #run(connection: Connection, query: Compiled, values: never[], budget: Budget): Promise<unknown> {
    const roundTrips = connection.roundTripsOf(query)
    // What only reads, or may be sent again, leaves nobody in doubt when its answer comes too late.
    budget.requireRest(query.repeatable ? 0 : roundTrips)
    const begun = clock.now
    try {
      const rows = await connection.run(query, values, Math.min(limits.deadline, budget.left))
      budget.spend(clock.now - begun, roundTrips)
      return rows
    } catch (error) {
      budget.spend(clock.now - begun)
      if (isOutOfStep(error)) connection.destroy()
      if (isDeadline(error)) this.#replaceAll('the database does not answer')
      if (isReadOnly(error)) this.#leaveStandby(connection)
      throw error
    }
  }

  #turn(): Promise<void> {
    if (this.#waiting.length >= this.size * queuePerConnection) throw new DatabaseError('POOL_QUEUE_FULL')
    return new Promise((resolve, reject) => {
      const alarm = clock.set(limits.queue, () => {
        this.#waiting.splice(this.#waiting.indexOf(turn), 1)
        reject(new DatabaseError('POOL_QUEUE_TIMEOUT'))
      })
      const turn = () => {
        clock.cancel(alarm)
        resolve()
      }
      this.#waiting.push(turn)
    })
  }

  async #connect(ms: number): Promise<Connection> {
    try {
      if (this.#isClosed) throw new DatabaseError('CONNECTION_ENDED')
      const connection = await this.#connects.open(ms, this.#forget)
      this.#open.add(connection)
      return connection
    } catch (error) {
      this.#giveBack(undefined)
      throw error
    }
  }

  #giveBack(connection: Connection | undefined): void {
    if (connection?.isUsable && connection.openedAt >= this.#movedAt && !this.#isClosed) {
      connection.idleSince = performance.now()
      this.#idle.push(connection)
    } else void connection?.close(1)
    const next = this.#waiting.shift()
    if (next) next()
    else this.#free++
  }

  readonly #forget = (connection: Connection): void => {
    this.#open.delete(connection)
    this.#idle = this.#idle.filter((other) => other !== connection)
  }

  /** The server ends a slow statement itself, sooner; that it did not means that the way to it is broken, for all. */
  #replaceAll(reason: string): void {
    this.#onProblem(`${reason}; its connections are replaced`)
    this.#closeIdle(Infinity)
  }

  /** The primary may be elsewhere by now, for all connections of before. */
  #leaveStandby(connection: Connection): void {
    const now = performance.now()
    if (connection.openedAt < this.#movedAt) return connection.destroy()
    if (now - this.#movedAt < moveMs) return
    this.#movedAt = now
    connection.destroy()
    this.#replaceAll('the database only reads')
  }

  #closeIdle(before: number): void {
    const old = this.#idle.filter(({ idleSince }) => idleSince < before)
    this.#idle = this.#idle.filter((connection) => !old.includes(connection))
    for (const connection of old) void connection.close(1)
  }
}

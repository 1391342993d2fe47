import { AsyncLocalStorage } from 'node:async_hooks'
import { DatabaseError } from './faults.ts'

/** Milliseconds of all statements of one request together (see docs/architecture.md). */
const budgetMs = 2500
/** With less no statement is begun. */
const leastMs = 100

const budgets = new AsyncLocalStorage<Budget>()

/** One of those who share a statement. */
interface Sharer {
  /** The budget of its request. */
  readonly payer: Budget | undefined
}

const nobodyElse: readonly Sharer[] = []

/** What one request may still spend on the database; its passwords and its body do not count. */
export class Budget {
  readonly #whole: number
  #left: number
  #slowest = 0
  #sharers: readonly Sharer[]
  /** What the trace of the request is known by, where requests are traced. */
  trace: unknown

  constructor(ms = budgetMs, sharers = nobodyElse) {
    this.#whole = ms
    this.#left = ms
    this.#sharers = sharers
  }

  /** For a statement that several requests share: each of them pays for it when it is settled. */
  static sharedBy(sharers: readonly Sharer[]): Budget {
    return new Budget(budgetMs, sharers)
  }

  /** That of the request that is being served, if there is one. */
  static get current(): Budget | undefined {
    return budgets.getStore()
  }

  /** Does something, and all that follows from it, on this budget. */
  run<T>(task: () => T): T {
    return budgets.run(this, task)
  }

  get left(): number {
    return this.#left
  }

  /** Those on whose behalf it is spent, where several share it. */
  get sharers(): readonly Sharer[] {
    return this.#sharers
  }

  /**
   * Throws `DatabaseError` when a statement must not begin: too little is left, or its answer, after `roundTrips` as slow
   * as the slowest so far, would come when nobody can be told any more.
   */
  requireRest(roundTrips = 0): void {
    if (this.#left < Math.max(leastMs, roundTrips * this.#slowest)) throw new DatabaseError('BUDGET_SPENT')
  }

  /** Takes the time that was waited; that of an answer shows how slow its round trips are. */
  spend(ms: number, roundTrips?: number): void {
    this.#left -= ms
    if (roundTrips !== undefined) this.#slowest = Math.max(this.#slowest, ms / roundTrips)
  }

  /** Takes what was spent from the budgets of all who shared it. */
  settle(): void {
    for (const { payer } of this.#sharers) if (payer) payer.#pay(this)
    // A connection that was opened meanwhile keeps this budget as long as it lives.
    this.#sharers = nobodyElse
  }

  /** The request has been answered: what it started and goes on has no limit but those of each statement, and no trace. */
  lift(): void {
    this.#left = Infinity
    this.#slowest = 0
    this.trace = undefined
  }

  #pay(other: Budget): void {
    this.#left -= other.#whole - other.#left
    this.#slowest = Math.max(this.#slowest, other.#slowest)
  }
}

import type { Duplex } from 'node:stream'
import postgres from 'postgres'
import { clock } from './clock.ts'
import type { Address, DriverOptions } from './driver.ts'
import { codeOf, DatabaseError } from './faults.ts'
import { connectedStream, failingStream, type Place } from './socket.ts'
import type { Compiled } from './statement.ts'

/** Milliseconds that a cancelled statement has to say what became of it. */
const lastWordMs = 300
/** For the connection itself; logging in has what is left of the limit of `open`. */
const connectMs = 2000
/** With jitter, or all connections of a start would close together. */
const lifetimeMs = () => 1_800_000 * (0.75 + Math.random() / 2)

/**
 * Whether the driver may know the parameters of a statement and not its columns, as behind a pooler whose server had the
 * statement prepared and waited for a lock to describe it; it would fail on each row to come.
 */
function isHalfDescribed(query: postgres.PendingQuery<postgres.Row[]>): boolean {
  const { statement } = query as unknown as { statement: { columns?: unknown } | null }
  return statement !== null && !statement.columns
}

/**
 * One connection of the pool: opened once, closed once. Each is a postgres.js of its own, so that one that is dead takes
 * no other with it, and whose own reconnecting, which knows no pause, never happens.
 */
export class Connection {
  readonly #client: postgres.Sql
  readonly #streams: Duplex[] = []
  readonly #prepared = new Set<Compiled>()
  readonly #retiresAt = performance.now() + lifetimeMs()
  #isCancelling = false
  #isUsable = true
  #isUnreplicated = false
  readonly openedAt = performance.now()
  idleSince = 0

  private constructor([url, options]: Address, onLost: (connection: Connection) => void) {
    const own = {
      max: 1,
      connect_timeout: 0,
      idle_timeout: 0,
      max_lifetime: 0,
      socket: (place: Place) => this.#stream(place),
      onnotice: ({ routine }: postgres.Notice) => {
        if (routine === 'SyncRepWaitForLSN') this.#isUnreplicated = true
      },
      onclose: () => {
        this.#isUsable = false
        onLost(this)
      },
    }
    this.#client = postgres(url, { ...options, ...own } as DriverOptions)
  }

  /** Connects, logs in and asks once, all within `ms`; throws `DatabaseError`, also for a standby where that will not do. */
  static async open(
    address: Address,
    { ms, primary }: { readonly ms: number; readonly primary: boolean },
    onLost: (connection: Connection) => void,
  ): Promise<Connection> {
    const connection = new Connection(address, onLost)
    let code: string | undefined
    const alarm = clock.set(ms, () => {
      code = 'CONNECT_TIMEOUT'
      connection.destroy()
    })
    try {
      const [row] = await connection.#client<{ standby: boolean }[]>`select pg_is_in_recovery() as standby`.simple()
      if (primary && row?.standby) throw new DatabaseError('CONNECTED_TO_STANDBY')
      return connection
    } catch (error) {
      connection.destroy()
      // None of the driver's words: they hold the address and the user.
      throw new DatabaseError(code ?? codeOf(error))
    } finally {
      clock.cancel(alarm)
    }
  }

  /** Whether it may be used again. */
  get isUsable(): boolean {
    return this.#isUsable && performance.now() < this.#retiresAt
  }

  /** A statement is described by the server the first time that a connection sends it. */
  roundTripsOf(query: Compiled): number {
    return this.#prepared.has(query) ? 1 : 2
  }

  /** Runs a statement; after `ms` it is cancelled, and a connection that says nothing even then is dead. */
  run(query: Compiled, values: never[], ms: number): Promise<unknown> {
    const running = this.#client(query.strings, ...values)
    return new Promise((resolve, reject) => {
      let alarm = clock.set(ms, () => {
        this.#cancel(running)
        alarm = clock.set(lastWordMs, () => {
          this.destroy()
          reject(new DatabaseError('DEADLINE_PASSED'))
        })
      })
      running.then(
        (rows) => {
          clock.cancel(alarm)
          this.#prepared.add(query)
          if (!this.#isUnreplicated) return resolve(rows)
          // It was cancelled while it waited for the standbys: committed here, and gone if the primary fails now.
          this.#isUnreplicated = false
          reject(new DatabaseError('NOT_REPLICATED'))
        },
        (error: Error) => {
          clock.cancel(alarm)
          if (isHalfDescribed(running)) this.#isUsable = false
          reject(error)
        },
      )
    })
  }

  /** Closes it, after `seconds` also in the middle of a statement. */
  async close(seconds: number): Promise<void> {
    this.#isUsable = false
    await this.#client.end({ timeout: seconds }).catch(() => {})
    this.destroy()
  }

  /** Drops it with whatever it is doing. */
  destroy(): void {
    this.#isUsable = false
    this.#client.end({ timeout: 0 }).catch(() => {})
    for (const stream of this.#streams) stream.destroy()
  }

  /**
   * The cancel may come when the statement has ended, and would hit the next: there is none. It needs a connection of its
   * own, and what goes wrong with that is lost by the driver's `cancel()`, as a rejection that ends the process.
   */
  #cancel(running: postgres.PendingQuery<postgres.Row[]>): void {
    this.#isUsable = false
    this.#isCancelling = true
    const { canceller } = running as unknown as { canceller: (query: typeof running) => Promise<void> }
    canceller(running).catch(() => {})
  }

  async #stream(place: Place): Promise<Duplex> {
    if (this.#streams.length > 0 && !this.#isCancelling) return failingStream(new DatabaseError('CONNECTION_CLOSED'))
    const stream = await connectedStream(place, connectMs)
    this.#streams.push(stream)
    if (this.#isUsable || this.#isCancelling) return stream
    stream.destroy()
    return failingStream(new DatabaseError('CONNECTION_DESTROYED'))
  }
}

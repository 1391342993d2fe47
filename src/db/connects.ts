import { clock } from './clock.ts'
import { Connection } from './connection.ts'
import type { Address, Addresses } from './driver.ts'

/** Milliseconds to connect, log in and be asked once. */
const openMs = 2000
/** The pause after a connection could not be made grows from the first to the last. */
const pauseMs = { first: 50, last: 500 }

/**
 * Makes connections, with pauses while it fails: a proxy without its database is not besieged, and forgiven soon. Of
 * several hosts the one that served last is asked first.
 */
export class Connects {
  #failures = 0
  #pausedUntil = 0
  #current = 0
  readonly #addresses: Addresses

  constructor(addresses: Addresses) {
    this.#addresses = addresses
  }

  /** Resolves to a connection within `ms`; throws `DatabaseError`. */
  async open(ms: number, onLost: (connection: Connection) => void): Promise<Connection> {
    const pause = Math.min(this.#pausedUntil - performance.now(), ms)
    if (pause > 0) await new Promise<void>((resolve) => void clock.set(pause, resolve))
    try {
      const connection = await this.#openAny(Math.min(openMs, ms), onLost)
      this.#failures = 0
      return connection
    } catch (error) {
      this.#fail()
      throw error
    }
  }

  /** Each host has its share of the time that is left; throws what the last one said. */
  async #openAny(ms: number, onLost: (connection: Connection) => void): Promise<Connection> {
    const { list, primary } = this.#addresses
    const until = clock.now + ms
    const inTurn = list.map((_address, i) => (this.#current + i) % list.length)
    let fault: unknown
    for (const [tried, place] of inTurn.entries()) {
      const share = (until - clock.now) / (list.length - tried)
      try {
        const connection = await Connection.open(list[place] as Address, { ms: share, primary }, onLost)
        this.#current = place
        return connection
      } catch (error) {
        fault = error
      }
    }
    throw fault
  }

  /** Those who were on their way when the first failed count as one failure. */
  #fail(): void {
    const now = performance.now()
    if (now < this.#pausedUntil) return
    this.#pausedUntil = now + Math.min(pauseMs.first * 2 ** this.#failures, pauseMs.last)
    this.#failures++
  }
}

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
      const { connection, place } = await openAny(this.#addresses, Math.min(openMs, ms), onLost, this.#current)
      this.#current = place
      this.#failures = 0
      return connection
    } catch (error) {
      this.#fail()
      throw error
    }
  }

  /** Those who were on their way when the first failed count as one failure. */
  #fail(): void {
    const now = performance.now()
    if (now < this.#pausedUntil) return
    this.#pausedUntil = now + Math.min(pauseMs.first * 2 ** this.#failures, pauseMs.last)
    this.#failures++
  }
}

/**
 * Opens a connection to the first host that will do, beginning with that at `current`, and says which it was; each has its
 * share of the time that is left. Throws what the last one said.
 */
export async function openAny(
  { list, primary }: Addresses,
  ms: number,
  onLost: (connection: Connection) => void,
  current = 0,
): Promise<{ connection: Connection; place: number }> {
  const until = clock.now + ms
  let fault: unknown
  for (let tried = 0; tried < list.length; tried++) {
    const place = (current + tried) % list.length
    const share = (until - clock.now) / (list.length - tried)
    try {
      return { connection: await Connection.open(list[place] as Address, { ms: share, primary }, onLost), place }
    } catch (error) {
      fault = error
    }
  }
  throw fault
}

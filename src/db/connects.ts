import { clock } from './clock.ts'
import { Connection } from './connection.ts'
import type { DriverOptions } from './driver.ts'

/** Milliseconds to connect, log in and be asked once. */
const openMs = 2000
/** The pause after a connection could not be made grows from the first to the last. */
const pauseMs = { first: 50, last: 500 }

/** Makes connections, with pauses while it fails: a proxy without its database is not besieged, and forgiven soon. */
export class Connects {
  #failures = 0
  #pausedUntil = 0
  readonly #address: [string, DriverOptions]

  constructor(address: [string, DriverOptions]) {
    this.#address = address
  }

  /** Resolves to a connection within `ms`; throws `DatabaseError`. */
  async open(ms: number, onLost: (connection: Connection) => void): Promise<Connection> {
    const pause = Math.min(this.#pausedUntil - performance.now(), ms)
    if (pause > 0) await new Promise<void>((resolve) => void clock.set(pause, resolve))
    try {
      const connection = await Connection.open(this.#address, Math.min(openMs, ms), onLost)
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

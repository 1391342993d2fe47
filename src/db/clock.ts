const stepMs = 50
/** What passed between two looks beyond this is a pause of the process, in which no answer could be read. */
const longestStepMs = 250

interface Alarm {
  readonly at: number
  readonly ring: () => void
}

/**
 * Milliseconds that this process has lived through: while it is stopped or busy the clock stands still. One timer rings
 * all alarms, to within 50 ms, because one each costs more than a query.
 */
class Clock {
  #now = 0
  #lookedAt = 0
  #timer: NodeJS.Timeout | undefined
  readonly #alarms = new Set<Alarm>()

  /** Goes on only while an alarm is set. */
  get now(): number {
    return this.#now
  }

  set(ms: number, ring: () => void): Alarm {
    const alarm = { at: this.#now + ms, ring }
    this.#alarms.add(alarm)
    if (this.#timer === undefined) {
      this.#lookedAt = performance.now()
      this.#timer = setInterval(() => this.#look(), stepMs).unref()
    }
    return alarm
  }

  cancel(alarm: Alarm): void {
    this.#alarms.delete(alarm)
  }

  #look(): void {
    const now = performance.now()
    this.#now += Math.min(now - this.#lookedAt, longestStepMs)
    this.#lookedAt = now
    if (this.#alarms.size > 0) {
      // Timers come before sockets in a turn of the event loop: what lies there is read before anything rings.
      setImmediate(() => this.#ring())
      return
    }
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #ring(): void {
    for (const alarm of this.#alarms) {
      if (alarm.at > this.#now) continue
      this.#alarms.delete(alarm)
      alarm.ring()
    }
  }
}

/** The one clock of the time limits of the database. */
export const clock = new Clock()

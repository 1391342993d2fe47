import { DatabaseError } from './faults.ts'

/** Rejects what is not settled in time. One timer looks after all, to within 50 ms: one each costs more than a query. */
export class Deadline {
  readonly #ms: number
  readonly #pending = new Set<{ readonly end: number; readonly expire: () => void }>()
  #timer: NodeJS.Timeout | undefined

  constructor(ms: number) {
    this.#ms = ms
  }

  within<T>(promise: PromiseLike<T>, onLate: () => void, onSettled?: () => void): Promise<T> {
    return new Promise((resolve, reject) => {
      const entry = {
        end: performance.now() + this.#ms,
        expire: () => {
          onLate()
          reject(new DatabaseError('DEADLINE_PASSED'))
        },
      }
      this.#pending.add(entry)
      this.#timer ??= setInterval(() => this.#look(), 50).unref()
      const settled = () => {
        this.#pending.delete(entry)
        onSettled?.()
      }
      promise.then(
        (value) => {
          settled()
          resolve(value)
        },
        (error: Error) => {
          settled()
          reject(error)
        },
      )
    })
  }

  #look(): void {
    const now = performance.now()
    for (const entry of this.#pending) {
      // In the order of their ends.
      if (entry.end > now) return
      this.#pending.delete(entry)
      entry.expire()
    }
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}

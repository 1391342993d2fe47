import { Problem } from '#src/problem.ts'

/** Lets `width` tasks run at once and `length` wait; throws `Problem` `unavailable` when more come. */
export class Gate {
  #running = 0
  readonly #waiting: Array<() => void> = []
  readonly width: number
  readonly length: number
  private readonly onRefusal: () => void

  constructor(width: number, length: number, onRefusal: () => void) {
    this.width = width
    this.length = length
    this.onRefusal = onRefusal
  }

  get running(): number {
    return this.#running
  }

  get waiting(): number {
    return this.#waiting.length
  }

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#running < this.width) this.#running++
    else await this.#turn()
    try {
      return await task()
    } finally {
      const next = this.#waiting.shift()
      if (next) next()
      else this.#running--
    }
  }

  #turn(): Promise<void> {
    if (this.#waiting.length >= this.length) {
      this.onRefusal()
      throw new Problem('unavailable', { cause: 'password gate: queue is full', headers: { 'retry-after': '5' } })
    }
    return new Promise((resolve) => this.#waiting.push(resolve))
  }
}

import { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import { clock } from './clock.ts'
import { DatabaseError } from './faults.ts'

/** Where the driver says that the server is. */
export interface Place {
  readonly host: readonly string[]
  readonly port: readonly number[]
  readonly path?: string | false
}

/** Connects for the driver within `ms`; what goes wrong comes out of the stream, because it waits for ever after a throw. */
export function connectedStream({ host: [name], port: [port], path }: Place, ms: number): Promise<Duplex> {
  // A URL has an IPv6 address in brackets.
  const host = name?.replace(/^\[(.*)\]$/, '$1')
  // The driver asks for the name when it checks a certificate.
  const socket = Object.assign(new Socket(), { host })
  return new Promise((resolve) => {
    const alarm = clock.set(ms, () => socket.destroy(new DatabaseError('CONNECT_TIMEOUT')))
    const settle = (stream: Duplex) => {
      clock.cancel(alarm)
      socket.removeAllListeners()
      resolve(stream)
    }
    socket.once('connect', () => settle(socket))
    socket.once('error', (error) => settle(failingStream(error)))
    if (path) socket.connect(path)
    else socket.connect(port ?? 5432, host ?? 'localhost')
  })
}

/** Takes what is written and fails, after the driver has begun to listen and its first write has gone out. */
export function failingStream(error: Error): Duplex {
  const stream = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() })
  setImmediate(() => setImmediate(() => stream.destroy(error)))
  return stream
}

const patience = { connects: 5, withinMs: 10_000, pauseMs: 100 }

/**
 * Streams for a connection that the driver may open again. It does so at once, for ever, where connections are taken and
 * closed: here with growing pauses, and after five within ten seconds no more.
 */
export class PatientStreams {
  #times: number[] = []
  #last: Duplex | undefined
  #isClosed = false
  readonly #find: (place: Place) => Promise<Place>

  /** `find` says where to connect instead of where the driver would, or throws. */
  constructor(find: (place: Place) => Promise<Place> = async (place) => place) {
    this.#find = find
  }

  readonly open = async (place: Place): Promise<Duplex> => {
    const now = performance.now()
    this.#times = [...this.#times.filter((time) => now - time < patience.withinMs), now]
    const again = this.#times.length - 1
    if (this.#isClosed || again >= patience.connects) return failingStream(new DatabaseError('CONNECTION_CLOSED'))
    if (again > 0) await setTimeout(patience.pauseMs * 2 ** (again - 1))
    try {
      this.#last = await connectedStream(await this.#find(place), patience.withinMs)
    } catch (error) {
      return failingStream(error as Error)
    }
    if (this.#isClosed) this.#last.destroy()
    return this.#last
  }

  close(): void {
    this.#isClosed = true
    this.#last?.destroy()
  }
}

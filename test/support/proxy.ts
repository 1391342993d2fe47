import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { cleanUp } from './clean-up.ts'

/** A wire to a database that counts round trips and connects, and can be broken in every way that a network can. */
export class Proxy {
  roundTrips = 0
  connects = 0
  #isMuted = false
  #lateMs = 0
  #isClosed = false
  #isLosing = false
  #delayMs = 0
  #isHeld = false
  readonly #sockets = new Set<Socket>()
  readonly #server: Server
  readonly #target: URL

  constructor(target: string) {
    this.#target = new URL(target)
    this.#server = createServer((client) => this.#join(client))
  }

  async listen(): Promise<void> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
  }

  get url(): string {
    const url = new URL(this.#target)
    url.searchParams.delete('host')
    url.hostname = '127.0.0.1'
    url.port = String((this.#server.address() as { port: number }).port)
    return url.href
  }

  /** Connections that are open now. */
  get open(): number {
    return this.#sockets.size / 2
  }

  /** Swallows what clients say. */
  mute(muted: boolean): void {
    this.#isMuted = muted
  }

  /** Lets connections to come wait for so long before anything gets through. */
  admitLate(ms: number): void {
    this.#lateMs = ms
  }

  /** Stops passing on anything, in either direction; what was said meanwhile arrives later. */
  hold(held: boolean): void {
    this.#isHeld = held
    for (const socket of this.#sockets)
      if (held) socket.pause()
      else socket.resume()
  }

  /** Keeps back each answer for so long. */
  delay(ms: number): void {
    this.#delayMs = ms
  }

  /** Cuts the connection instead of passing on what the database says next. */
  loseAnswer(): void {
    this.#isLosing = true
  }

  /** Takes connections and closes them. */
  refuse(closed: boolean): void {
    this.#isClosed = closed
    if (closed) this.cut()
  }

  /** Takes no more connections, and keeps those that it has. */
  stopListening(): void {
    this.#server.close()
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  close(): void {
    this.cut()
    this.stopListening()
  }

  #join(client: Socket): void {
    this.connects++
    if (this.#isClosed) return void client.destroy()
    if (this.#lateMs > 0) setTimeout(() => client.resume(), this.#lateMs)
    const upstream = connect(this.#place())
    const syncs = countSyncs()
    client.on('data', (chunk: Buffer) => {
      this.roundTrips += syncs(chunk)
      if (!this.#isMuted) upstream.write(chunk)
    })
    upstream.on('data', (chunk: Buffer) => this.#answer(client, chunk))
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      this.#sockets.add(socket)
      if (this.#isHeld || (this.#lateMs > 0 && socket === client)) socket.pause()
      socket.on('error', () => {})
      socket.on('close', () => {
        this.#sockets.delete(socket)
        other.destroy()
      })
    }
  }

  #answer(client: Socket, chunk: Buffer): void {
    if (this.#isLosing) {
      this.#isLosing = false
      client.destroy()
    } else if (this.#delayMs > 0) setTimeout(() => client.write(chunk), this.#delayMs)
    else client.write(chunk)
  }

  #place() {
    const folder = this.#target.searchParams.get('host')
    if (folder !== null) return { path: `${folder}/.s.PGSQL.5432` }
    return { host: this.#target.hostname, port: Number(this.#target.port || 5432) }
  }
}

/** A proxy in front of the database, closed when the test or its file ends. */
export async function proxyTo({ url }: { readonly url: string }): Promise<Proxy> {
  const proxy = new Proxy(url)
  await proxy.listen()
  cleanUp(() => proxy.close())
  return proxy
}

/** Counts the messages `Sync` and `Flush`, after which a client waits for the server. */
function countSyncs(): (chunk: Buffer) => number {
  let rest = Buffer.alloc(0)
  let started = false
  return (chunk) => {
    rest = Buffer.concat([rest, chunk])
    let count = 0
    for (;;) {
      // The first message of a connection has no type.
      const head = started ? 1 : 0
      if (rest.length < head + 4) return count
      const length = head + rest.readUInt32BE(head)
      if (rest.length < length) return count
      if (started && (rest[0] === 0x53 || rest[0] === 0x48)) count++
      started = true
      rest = rest.subarray(length)
    }
  }
}

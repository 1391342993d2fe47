import { once } from 'node:events'
import type { Server } from 'node:http'
import { type AddressInfo, connect, Server as NetServer, type Socket } from 'node:net'
import { setImmediate, setTimeout } from 'node:timers/promises'

/** What Node itself uses to listen; `listen` and `getpeername` have no public counterpart that answers at once. */
interface Handle {
  readonly listen: (backlog: number) => number
  readonly getpeername: (name: object) => number
}

/** A connection on which nothing has come for so long is taken to carry nothing. */
const quietMs = 1000
const limitMs = 6000
const stopLimitMs = 1000
/** Of 0, the kernel would warn of a flood. */
const smallBacklog = 4

/**
 * Follows the connections of a server; the function it returns stops listening and resolves when every connection is
 * closed, each after the answer to what it carries. The answers have to say `Connection: close` by then.
 */
export function followConnections(server: Server): () => Promise<void> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })

  return async () => {
    if (!server.listening) return
    const closed = once(server, 'close')
    await stopListening(server)
    await Promise.race([closed, setTimeout(quietMs)])
    // What has arrived meanwhile is read before the rest is judged to be idle.
    await setImmediate()
    await setImmediate()
    server.closeIdleConnections()
    // Node does not count a connection as idle that has not sent anything yet, as browsers open them in advance.
    for (const socket of sockets) if (socket.bytesRead === 0) socket.end()
    await Promise.race([closed, setTimeout(limitMs)])
    server.closeAllConnections()
  }
}

/**
 * Closes the listening socket while nobody's connection waits in its backlog, because the system resets those that do:
 * a small backlog is filled with connections of our own, so that others are kept out and refused a moment later.
 */
async function stopListening(server: Server): Promise<void> {
  handleOf(server)?.listen(smallBacklog)
  const deadline = performance.now() + stopLimitMs
  let plugs = await fillBacklog(server)
  while (!plugs.every(isConnected) && performance.now() < deadline) {
    for (const plug of plugs) plug.destroy()
    // Whoever waits is accepted.
    await setImmediate()
    plugs = await fillBacklog(server)
  }
  // `close` of `http.Server` would close idle connections, too.
  NetServer.prototype.close.call(server)
  for (const plug of plugs) plug.destroy()
}

/** Connects to ourselves; what is connected before the event loop has turned waits in the backlog. */
async function fillBacklog(server: Server): Promise<Socket[]> {
  const { address, port } = server.address() as AddressInfo
  const host = { '0.0.0.0': '127.0.0.1', '::': '::1' }[address] ?? address
  const plugs = Array.from({ length: smallBacklog + 1 }, () => connect({ host, port }).on('error', () => {}))
  await new Promise<void>((resolve) => process.nextTick(resolve))
  return plugs
}

function isConnected(socket: Socket): boolean {
  return handleOf(socket)?.getpeername({}) === 0
}

function handleOf(owner: object): Handle | undefined {
  return Reflect.get(owner, '_handle') as Handle | undefined
}

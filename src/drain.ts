import { once } from 'node:events'
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { stopListening } from './stop-listening.ts'

/** A connection on which nothing has come for so long is taken to carry nothing. */
const quietMs = 1000
/** From the moment that listening is to end; what that takes is less for the answers. */
const limitMs = 5000

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
    const deadline = performance.now() + limitMs
    await stopListening(server)
    await Promise.race([closed, setTimeout(quietMs)])
    // What has arrived meanwhile is read before the rest is judged to be idle.
    await setImmediate()
    await setImmediate()
    server.closeIdleConnections()
    // Node does not count a connection as idle that has not sent anything yet, as browsers open them in advance.
    for (const socket of sockets) if (socket.bytesRead === 0) socket.end()
    await Promise.race([closed, setTimeout(Math.max(0, deadline - performance.now()))])
    server.closeAllConnections()
  }
}

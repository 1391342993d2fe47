import type { Socket } from 'node:net'
import { bodyOf, Problem } from '#src/problem.ts'

/** Answers what is not HTTP, too large in its head or too slow, where no route is there to do it. */
export function refuseConnection(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return
  const problem = new Problem(error.code === 'HPE_HEADER_OVERFLOW' ? 'headers_too_large' : 'invalid_request')
  const { title } = bodyOf(problem)
  const body = JSON.stringify(bodyOf(problem))
  if (socket.writable)
    socket.write(
      `HTTP/1.1 ${problem.status} ${title}\r\nContent-Type: application/problem+json\r\nConnection: close\r\n` +
        `Cache-Control: no-store\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    )
  socket.destroySoon()
}

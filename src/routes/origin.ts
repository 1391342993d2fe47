import type { FastifyRequest } from 'fastify'
import { addressOf } from '#src/address.ts'
import type { Sender } from '#src/features/sessions/rotation.ts'

/** Where a request comes from, for the audit trail, and whether its client still waits. */
export function originOf(request: FastifyRequest): Sender {
  const { socket } = request.raw
  return {
    ip: addressOf(request),
    userAgent: request.headers['user-agent']?.slice(0, 400) ?? null,
    requestId: request.id,
    isWaiting: () => !socket.destroyed && !socket.readableEnded && !socket.writableEnded,
  }
}

import type { CookieSerializeOptions } from '@fastify/cookie'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { Problem } from '#src/problem.ts'

/** The opt-in of a client that keeps its refresh token in an HttpOnly cookie instead of in script. */
export const TransportHeader = Type.Object({
  'x-token-transport': Type.Optional(
    Type.String({
      enum: ['body', 'cookie'],
      description: '`cookie`: the refresh token travels in an HttpOnly cookie. No other site can send this header.',
    }),
  ),
})

export interface RefreshCookie {
  readonly isWanted: (request: FastifyRequest) => boolean
  /** The token in the cookie; throws `csrf_rejected` when there is one and the request may be another site's. */
  readonly read: (request: FastifyRequest) => string | undefined
  readonly write: (reply: FastifyReply, refreshToken: string) => void
  readonly clear: (reply: FastifyReply) => void
  /** Whether the request carries the cookie; on other paths than its own it never does. */
  readonly isSent: (request: FastifyRequest) => boolean
}

/** The refresh cookie of the contract at `prefix`, limited to the paths that need it; `maxAge` in seconds. */
export function refreshCookie(options: { prefix: string; secure: boolean; maxAge: number }): RefreshCookie {
  const paths = [`${options.prefix}/refresh`, `${options.prefix}/logout`]
  const name = options.secure ? '__Secure-latchkey_refresh' : 'latchkey_refresh'
  const attributes = (path: string): CookieSerializeOptions => ({
    path,
    httpOnly: true,
    sameSite: 'strict',
    secure: options.secure,
  })
  const isWanted = ({ headers }: FastifyRequest) => headers['x-token-transport'] === 'cookie'
  return {
    isWanted,
    read: (request) => {
      const token = request.cookies[name]
      // Of two cookies of one name nobody knows which is ours: a neighbouring site may have set the other.
      if (token === undefined || countOf(request, name) !== 1) return undefined
      // A form or an image of another site can send the cookie at most; it cannot add the header.
      if (!isWanted(request) || request.headers['sec-fetch-site'] === 'cross-site')
        throw new Problem('csrf_rejected', { detail: 'A refresh cookie needs the header X-Token-Transport: cookie.' })
      return token
    },
    write: (reply, refreshToken) => {
      for (const path of paths) reply.setCookie(name, refreshToken, { ...attributes(path), maxAge: options.maxAge })
    },
    isSent: (request) => request.cookies[name] !== undefined,
    clear: (reply) => {
      for (const path of paths) reply.clearCookie(name, attributes(path))
    },
  }
}

function countOf({ headers }: FastifyRequest, name: string): number {
  return (headers.cookie ?? '').split(';').filter((pair) => pair.trimStart().startsWith(`${name}=`)).length
}

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
}

/** The refresh cookie of one contract, limited to the paths that need it. */
export function refreshCookie(options: { paths: readonly string[]; secure: boolean; maxAge: number }): RefreshCookie {
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
      if (token === undefined) return undefined
      // A form or an image of another site can send the cookie at most; it cannot add the header.
      if (!isWanted(request) || request.headers['sec-fetch-site'] === 'cross-site')
        throw new Problem('csrf_rejected', { detail: 'A refresh cookie needs the header X-Token-Transport: cookie.' })
      return token
    },
    write: (reply, refreshToken) => {
      for (const path of options.paths)
        reply.setCookie(name, refreshToken, { ...attributes(path), maxAge: options.maxAge })
    },
    clear: (reply) => {
      if (reply.request.cookies[name] === undefined) return
      for (const path of options.paths) reply.clearCookie(name, attributes(path))
    },
  }
}

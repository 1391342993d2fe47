import { timingSafeEqual } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { digestOf } from '#src/core/tokens.ts'

/** The client id and secret of a request, by `Authorization: Basic` or by fields (RFC 6749 §2.3.1); empty when left out. */
export function clientCredentialsOf(request: FastifyRequest): [id: string, secret: string] {
  return basicCredentials(request) ?? [fieldOf(request, 'client_id'), fieldOf(request, 'client_secret')]
}

/** The client of OAUTH_CLIENTS that a request authenticates as. */
export function authenticatedClient(request: FastifyRequest, clients: ReadonlyMap<string, string>): string | undefined {
  const [id, secret] = clientCredentialsOf(request)
  const expected = clients.get(id)
  return expected !== undefined && isSameSecret(secret, expected) ? id : undefined
}

/** Compares two secrets in a time that tells nothing of them. */
function isSameSecret(one: string, other: string): boolean {
  return timingSafeEqual(digestOf(Buffer.from(one)), digestOf(Buffer.from(other)))
}

function fieldOf({ body }: FastifyRequest, name: string): string {
  const value: unknown = typeof body === 'object' && body !== null ? Reflect.get(body, name) : undefined
  return typeof value === 'string' ? value : ''
}

/** The credentials of `Authorization: Basic`; `undefined` without them, or when they are empty, as Swagger UI sends them. */
function basicCredentials({ headers }: FastifyRequest): [id: string, secret: string] | undefined {
  const encoded = /^basic ([A-Za-z0-9+/]+=*)$/i.exec(headers.authorization ?? '')?.[1]
  if (encoded === undefined) return undefined
  const [id = '', ...rest] = Buffer.from(encoded, 'base64').toString('utf8').split(':')
  try {
    return id === '' ? undefined : [decodeURIComponent(id), decodeURIComponent(rest.join(':'))]
  } catch {
    return [id, rest.join(':')]
  }
}

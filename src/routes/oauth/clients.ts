import { timingSafeEqual } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { digestOf } from '#src/features/tokens/tokens.ts'
import { Problem } from '#src/problem.ts'

type Clients = ReadonlyMap<string, string>
interface Credentials {
  readonly id: string
  readonly secret: string
}

/**
 * RFC 6749 §2.3.1: the id of the client of `OAUTH_CLIENTS` whose credentials a request has, in `Authorization: Basic` or
 * in the form. Without credentials, or with no more than the id of a public client, `undefined`; throws `client_invalid`.
 */
export function authenticateClient(request: FastifyRequest, clients: Clients): string | undefined {
  const basic = basicCredentials(request)
  const { client_id: id = '', client_secret: secret = '' } = (request.body ?? {}) as Record<string, string>
  // RFC 6749 §2.3: not more than one method in each request. The id alone is none.
  if (basic && (secret !== '' || (id !== '' && id !== basic.id)))
    throw new Problem('invalid_request', { detail: 'The client authenticates in the header and in the body.' })
  // A public client names itself so, too: requests-oauthlib sends its id and an empty secret.
  if (basic && (basic.secret !== '' || clients.has(basic.id))) return authenticated(basic, clients)
  return clients.has(id) ? authenticated({ id, secret }, clients) : undefined
}

/** As `authenticateClient`, and `undefined` also for credentials that are wrong: their refusal is the route's. */
export function clientOf(request: FastifyRequest, clients: Clients): string | undefined {
  try {
    return authenticateClient(request, clients)
  } catch {
    return undefined
  }
}

/** As `authenticateClient`, where only a client of `OAUTH_CLIENTS` is let in. */
export function requireClient(request: FastifyRequest, clients: Clients): string {
  const id = authenticateClient(request, clients)
  if (id === undefined) throw refused()
  return id
}

function authenticated({ id, secret }: Credentials, clients: Clients): string {
  const expected = clients.get(id)
  if (expected === undefined || !timingSafeEqual(digestOf(Buffer.from(secret)), digestOf(Buffer.from(expected))))
    throw refused()
  return id
}

/** RFC 6749 §5.2: with the scheme that the client used or may use. */
function refused(): Problem {
  return new Problem('client_invalid', { headers: { 'www-authenticate': 'Basic realm="oauth"' } })
}

/** The credentials of `Authorization: Basic`; `undefined` without them, or when both are empty, as Swagger UI sends them. */
function basicCredentials({ headers }: FastifyRequest): Credentials | undefined {
  const { authorization = '' } = headers
  if (!/^basic(\s|$)/i.test(authorization)) return undefined
  const encoded = /^basic +([A-Za-z0-9+/]+=*)$/i.exec(authorization)?.[1]
  if (encoded === undefined) throw refused()
  const [id = '', ...rest] = Buffer.from(encoded, 'base64').toString('utf8').split(':')
  const secret = rest.join(':')
  return id === '' && secret === '' ? undefined : { id: decoded(id), secret: decoded(secret) }
}

/** RFC 6749 §2.3.1: both are form-encoded; what is not, is taken as it stands. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

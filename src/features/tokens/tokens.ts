import { createHmac, hash, type KeyObject, randomBytes } from 'node:crypto'

/** Signs and checks access tokens (RFC 9068). */
export interface AccessTokens {
  /** Signs an access token that never outlives its session. */
  readonly sign: (subject: AccessSubject) => AccessToken
  /** Checks a token; throws `Problem` `token_invalid` or `token_expired`, and `unavailable` when its key cannot be looked up. */
  readonly verify: (token: string) => Promise<AccessClaims>
}

/** RFC 9068 §2.2 wants the client of a token named; every login is one through the service itself. */
export const firstPartyClient = 'latchkey'

export interface AccessSubject {
  readonly userId: number
  readonly roles: readonly string[]
  readonly sessionId: string
  readonly sessionExpiresAt: Date
}

export interface AccessToken {
  readonly accessToken: string
  /** Seconds. */
  readonly expiresIn: number
}

export interface AccessClaims {
  readonly userId: number
  readonly sessionId: string
  readonly tokenId: string
  /** Seconds since 1970. */
  readonly issuedAt: number
  /** Seconds since 1970. */
  readonly expiresAt: number
}

/** A refresh token as the client holds it, in its parts. */
export interface RefreshToken {
  readonly sessionId: string
  readonly generation: number
  readonly secret: Buffer
}

const refreshTokenShape = /^lkr_([A-Za-z0-9_-]{22})\.(0|[1-9]\d{0,8})\.([A-Za-z0-9_-]{43})$/

/** Writes a refresh token: a prefix that secret scanners can know, session, generation, secret. */
export function formatRefreshToken({ sessionId, generation, secret }: RefreshToken): string {
  const session = Buffer.from(sessionId.replaceAll('-', ''), 'hex')
  return `lkr_${session.toString('base64url')}.${generation}.${secret.toString('base64url')}`
}

/** Reads a refresh token; `undefined` unless it is exactly what `formatRefreshToken` writes. */
export function parseRefreshToken(text: string): RefreshToken | undefined {
  const [, session, generation, secret] = refreshTokenShape.exec(text) ?? []
  if (session === undefined || generation === undefined || secret === undefined) return undefined
  const hex = Buffer.from(session, 'base64url').toString('hex')
  const token: RefreshToken = {
    sessionId: [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-'),
    generation: Number(generation),
    secret: Buffer.from(secret, 'base64url'),
  }
  return formatRefreshToken(token) === text ? token : undefined
}

/** The first token of a session; its secret is random. */
export function firstRefreshToken(sessionId: string): RefreshToken {
  return { sessionId, generation: 0, secret: randomBytes(32) }
}

/**
 * The one successor that a token has with a given salt: the same for every retry, and nothing without the raw secret
 * that was presented.
 */
export function successorOf(presented: RefreshToken, salt: Buffer, key: KeyObject): RefreshToken {
  const generation = presented.generation + 1
  const secret = createHmac('sha256', key)
    .update(presented.secret)
    .update(salt)
    .update(presented.sessionId)
    .update(String(generation))
    .digest()
  return { sessionId: presented.sessionId, generation, secret }
}

/** What is stored of a secret. */
export function digestOf(secret: Buffer): Buffer {
  return hash('sha256', secret, 'buffer')
}

import { createRemoteJWKSet, errors, jwtVerify } from 'jose'

/** Who a request speaks for; throws `Refused` with what the client is told. */
export type Verify = (token: string) => Promise<string>

export class Refused extends Error {
  readonly status: number
  readonly code: string
  constructor(status: number, code: string) {
    super(code)
    this.status = status
    this.code = code
  }
}

/** Checks the signature with the public keys of the service: no request, and a session that ends is noticed when the token expires. */
export function verifyByKeys(service: string, issuer: string): Verify {
  const keys = createRemoteJWKSet(new URL('/.well-known/jwks.json', service))
  return async (token) => {
    try {
      const { payload } = await jwtVerify(token, keys, { issuer, typ: 'at+jwt', requiredClaims: ['sub', 'exp'] })
      return String(payload.sub)
    } catch (error) {
      if (error instanceof errors.JWTExpired) throw new Refused(401, 'token_expired')
      if (error instanceof errors.JOSEError && error.code !== 'ERR_JWKS_TIMEOUT')
        throw new Refused(401, 'token_invalid')
      throw new Refused(503, 'unavailable')
    }
  }
}

/** Asks the service: a request each time, and a session that ends is noticed at once. */
export function verifyByAsking(service: string): Verify {
  return async (token) => {
    const reply = await fetch(new URL('/api/v1/validate', service), {
      method: 'POST',
      headers: { authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(5000),
    }).catch(() => undefined)
    const body = (await reply?.json().catch(() => undefined)) as { user_id?: number; code?: string } | undefined
    if (reply?.status === 200 && body?.user_id) return String(body.user_id)
    if (reply?.status === 401 && body?.code) throw new Refused(401, body.code)
    throw new Refused(503, 'unavailable')
  }
}

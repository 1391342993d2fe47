import { randomUUID } from 'node:crypto'
import fastifyJwt from '@fastify/jwt'
import fp from 'fastify-plugin'
import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import type { Config } from '#src/config.ts'
import { KeyRing, type SigningKey } from '#src/core/key-ring.ts'
import type { AccessClaims, AccessSubject, AccessToken, AccessTokens } from '#src/core/tokens.ts'
import { Problem } from '#src/problem.ts'

declare module 'fastify' {
  interface FastifyInstance {
    accessTokens: AccessTokens
    keyRing: KeyRing
  }
}

type JwtOptions = Pick<
  Config,
  'secretKeyPrevious' | 'jwtAudience' | 'accessTokenSeconds' | 'algorithm' | 'signingKeyRotateDays'
> & {
  readonly secretKey: string
  readonly issuer: string
}

/** How long an instance may not know of a key; far less than a key is published before it signs. */
const reloadEveryMs = 30_000

/** The largest `integer` of Postgres. */
const maxUserId = 2_147_483_647

const ClaimsSchema = Type.Object({
  sub: Type.String({ pattern: '^[1-9]\\d{0,9}$' }),
  sid: Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' }),
  jti: Type.String({ minLength: 1 }),
  iss: Type.String(),
  aud: Type.String(),
  iat: Type.Integer({ minimum: 0, maximum: 2 ** 40 }),
  exp: Type.Integer({ minimum: 0, maximum: 2 ** 40 }),
})
const Claims = Compile(ClaimsSchema)

/** Access tokens (RFC 9068): signed by the newest key of the ring, checked by the key that their `kid` names. */
export default fp<JwtOptions>(
  async (app, options) => {
    const { secretKey, secretKeyPrevious, issuer, jwtAudience: audience, accessTokenSeconds, algorithm } = options
    const secrets = [secretKey, ...(secretKeyPrevious ? [secretKeyPrevious] : [])]
    const ring = new KeyRing(app.db, secrets, algorithm, accessTokenSeconds)
    await ring.load()
    app.decorate('keyRing', ring)
    keepFresh()

    await app.register(fastifyJwt, {
      secret: secretKey,
      sign: algorithm === 'HS256' ? signOptions(ring.signer()) : {},
      // RFC 8725 §3.1, RFC 9068 §4: one algorithm, one type, every claim present. No cache: it would outlive a change.
      verify: {
        algorithms: ['HS256'],
        checkTyp: 'at+jwt',
        allowedIss: issuer,
        allowedAud: audience,
        requiredClaims: Object.keys(ClaimsSchema.properties),
        cache: false,
      },
    })

    function sign({ userId, roles, sessionId, sessionExpiresAt }: AccessSubject): AccessToken {
      const now = Math.floor(Date.now() / 1000)
      const exp = Math.min(now + accessTokenSeconds, Math.floor(sessionExpiresAt.getTime() / 1000))
      const claims = { iss: issuer, aud: audience, sub: String(userId), sid: sessionId, jti: randomUUID(), roles, exp }
      // The signer of SECRET_KEY is there already; those of other keys are made for the token.
      const accessToken = app.jwt.sign(claims, algorithm === 'HS256' ? undefined : signOptions(ring.signer()))
      return { accessToken, expiresIn: Math.max(0, exp - now) }
    }

    function verify(token: string): AccessClaims {
      const claims = checked(token)
      return {
        userId: Number(claims.sub),
        sessionId: claims.sid,
        tokenId: claims.jti,
        issuedAt: claims.iat,
        expiresAt: claims.exp,
      }
    }

    function checked(token: string): Static<typeof ClaimsSchema> {
      try {
        const [header = '', , signature = ''] = token.split('.')
        // RFC 7515 §4.1.11, RFC 8725 §3.10: the header is one that we write, so it has no `crit`, `jwk`, `jku` or `x5u`.
        const key = ring.find(header)
        if (!key || !isCanonical(signature)) throw new Problem('token_invalid')
        // The verifier of SECRET_KEY is there already; those of other keys are made for the token.
        const claims = app.jwt.verify(
          token,
          key.verifyWith === secretKey ? undefined : { key: key.verifyWith, algorithms: [key.algorithm] },
        )
        if (!Claims.Check(claims) || Number(claims.sub) > maxUserId) throw new Problem('token_invalid')
        return claims
      } catch (error) {
        // Whatever the library makes of a forged token, the answer is 401 (RFC 6750 §3.1).
        throw new Problem(codeOf(error) === 'FAST_JWT_EXPIRED' ? 'token_expired' : 'token_invalid')
      }
    }

    function keepFresh(): void {
      if (algorithm === 'HS256') return
      const minAgeSeconds = options.signingKeyRotateDays * 86_400
      const tend = async () => {
        await ring.load()
        if (minAgeSeconds > 0) await ring.rotate({ minAgeSeconds })
      }
      const timer = setInterval(() => {
        tend().catch((error: unknown) => app.log.warn({ err: error }, 'the signing keys could not be read'))
      }, reloadEveryMs)
      timer.unref()
      app.addHook('onClose', async () => clearInterval(timer))
    }

    app.decorate('accessTokens', { sign, verify })
  },
  { name: 'jwt', dependencies: ['db'] },
)

function signOptions({ kid, algorithm: alg, signWith: key }: SigningKey) {
  return { key, kid, algorithm: alg, header: { alg, typ: 'at+jwt' } }
}

/** RFC 4648 §3.5: of the spellings of the same bytes only one is taken. */
function isCanonical(text: string): boolean {
  return Buffer.from(text, 'base64url').toString('base64url') === text
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}

import { randomUUID } from 'node:crypto'
import fastifyJwt, { type JWT } from '@fastify/jwt'
import prom from '@platformatic/prom-client'
import fastify, { type FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { type Config, ConfigError } from '#src/config.ts'
import { KeyRing, reloadEveryMs } from '#src/features/tokens/key-ring.ts'
import type { RingKey } from '#src/features/tokens/signing-key.ts'
import {
  type AccessClaims,
  type AccessSubject,
  type AccessToken,
  type AccessTokens,
  firstPartyClient,
} from '#src/features/tokens/tokens.ts'
import { Problem } from '#src/problem.ts'

declare module 'fastify' {
  interface FastifyInstance {
    accessTokens: AccessTokens
    keyRing: KeyRing
  }
}

type JwtOptions = Config['tokens'] & { readonly secretKey: string; readonly issuer: string }

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
    const { secretKey, secretKeyPrevious, algorithm, accessTokenSeconds } = options
    const secrets = [secretKey, ...(secretKeyPrevious ? [secretKeyPrevious] : [])]
    const ring = new KeyRing(app.db, secrets, algorithm, accessTokenSeconds)
    await ring.load()
    if (!ring.current())
      throw new ConfigError(['SECRET_KEY: its HS256 key was retired; set another SECRET_KEY or another ALGORITHM'])
    keepFresh(app, ring, options)
    exposeAge(app, ring)
    app.decorate('keyRing', ring)
    app.decorate('accessTokens', accessTokensOf(ring, options))
  },
  { name: 'jwt', dependencies: ['db', 'metrics'] },
)

function accessTokensOf(ring: KeyRing, options: JwtOptions): AccessTokens {
  const { issuer, audience, accessTokenSeconds } = options
  const codecs = new Map<string, JWT>()

  function codecOf(key: RingKey): JWT {
    const known = codecs.get(key.kid)
    if (known) return known
    const codec = makeCodec(key, issuer, audience)
    codecs.set(key.kid, codec)
    return codec
  }

  function sign({ userId, roles, sessionId, sessionExpiresAt }: AccessSubject): AccessToken {
    const key = ring.current()
    if (!key) throw new Problem('unavailable', { cause: 'no key to sign with', headers: { 'retry-after': '10' } })
    const now = Math.floor(Date.now() / 1000)
    const exp = Math.min(now + accessTokenSeconds, Math.floor(sessionExpiresAt.getTime() / 1000))
    const accessToken = codecOf(key).sign({
      iss: issuer,
      aud: audience,
      sub: String(userId),
      client_id: firstPartyClient,
      sid: sessionId,
      jti: randomUUID(),
      roles,
      exp,
    })
    return { accessToken, expiresIn: Math.max(0, exp - now) }
  }

  async function verify(token: string): Promise<AccessClaims> {
    const [header = '', , signature = ''] = token.split('.')
    if (!isCanonical(signature)) throw new Problem('token_invalid')
    // RFC 7515 §4.1.11, RFC 8725 §3.10: the header is one that we write, so it has no `crit`, `jwk`, `jku` or `x5u`.
    const key = ring.find(header) ?? (await ring.look(header))
    if (!key) throw new Problem('token_invalid')
    const claims = claimsOf(token, codecOf(key))
    return {
      userId: Number(claims.sub),
      sessionId: claims.sid,
      tokenId: claims.jti,
      issuedAt: claims.iat,
      expiresAt: claims.exp,
    }
  }

  return { sign, verify }
}

/**
 * The signer and the verifier of one key. The plugin gets a Fastify of its own, because its decorators
 * (`request.jwtVerify`) know neither the other keys nor the session: no route of the service has them.
 */
function makeCodec({ kid, algorithm, signWith, verifyWith }: RingKey, issuer: string, audience: string): JWT {
  const holder = fastify()
  const options: fastifyJwt.FastifyJWTOptions = {
    secret: { public: verifyWith, ...(signWith === undefined ? {} : { private: signWith }) },
    sign: { algorithm, kid, header: { alg: algorithm, typ: 'at+jwt' } },
    // RFC 8725 §3.1, RFC 9068 §4: one algorithm, one type, every claim present. No cache: it would outlive a change.
    verify: {
      algorithms: [algorithm],
      checkTyp: 'at+jwt',
      allowedIss: issuer,
      allowedAud: audience,
      requiredClaims: Object.keys(ClaimsSchema.properties),
      cache: false,
    },
  }
  fastifyJwt(holder, options, (error) => {
    if (error) throw error
  })
  return holder.jwt
}

function claimsOf(token: string, codec: JWT): Static<typeof ClaimsSchema> {
  try {
    const claims: unknown = codec.verify(token)
    if (!Claims.Check(claims) || Number(claims.sub) > maxUserId) throw new Problem('token_invalid')
    return claims
  } catch (error) {
    // Whatever the library makes of a forged token, the answer is 401 (RFC 6750 §3.1).
    throw new Problem(codeOf(error) === 'FAST_JWT_EXPIRED' ? 'token_expired' : 'token_invalid')
  }
}

function keepFresh(app: FastifyInstance, ring: KeyRing, { signingKeyRotateDays }: JwtOptions): void {
  const minAgeSeconds = signingKeyRotateDays * 86_400
  const loadAndRotate = async () => {
    await ring.load()
    if (minAgeSeconds > 0) await ring.rotate({ minAgeSeconds })
  }
  const timer = setInterval(() => {
    loadAndRotate().catch((error: unknown) => app.log.warn({ err: error }, 'the signing keys could not be read'))
  }, reloadEveryMs)
  timer.unref()
  app.addHook('onClose', async () => clearInterval(timer))
}

function exposeAge({ metricsRegistry }: FastifyInstance, ring: KeyRing): void {
  const gauge = new prom.Gauge({
    name: 'auth_signing_key_age_seconds',
    help: 'Age of the stored key that signs access tokens; none while SECRET_KEY signs.',
    labelNames: ['algorithm'],
    registers: [metricsRegistry],
    collect() {
      gauge.reset()
      const key = ring.current()
      if (!key || key.algorithm === 'HS256') return
      gauge.set({ algorithm: key.algorithm }, (performance.now() - key.madeAt) / 1000)
    },
  })
}

/** RFC 4648 §3.5: of the spellings of the same bytes only one is taken. */
function isCanonical(text: string): boolean {
  return Buffer.from(text, 'base64url').toString('base64url') === text
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}

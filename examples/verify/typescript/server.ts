import fastify from 'fastify'
import { createRemoteJWKSet, errors, jwtVerify } from 'jose'

const { ISSUER = 'http://localhost:8000', PORT = '8200' } = process.env
// Fetched once, and again when a token has a key that is not there yet.
const keys = createRemoteJWKSet(new URL(`${ISSUER}/.well-known/jwks.json`))

const app = fastify()
app.get('/whoami', async ({ headers }, reply) => {
  const [, token = ''] = /^Bearer (\S+)$/i.exec(headers.authorization ?? '') ?? []
  try {
    const { payload } = await jwtVerify(token, keys, {
      algorithms: ['ES256'],
      typ: 'at+jwt',
      issuer: ISSUER,
      audience: 'latchkey',
    })
    return { user: payload.sub }
  } catch (error) {
    // An outage of the key set is no fault of the token.
    if (!(error instanceof errors.JOSEError) || error instanceof errors.JWKSTimeout) return reply.code(503).send()
    const code = error instanceof errors.JWTExpired ? 'token_expired' : 'token_invalid'
    return reply.code(401).header('www-authenticate', 'Bearer error="invalid_token"').send({ code })
  }
})
await app.listen({ port: Number(PORT) })

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import type { ContractOptions } from '#src/routes/contract.ts'
import { problems } from '#src/routes/problems.ts'
import { named } from '#src/routes/schemas.ts'

const KeySet = named('KeySet', {
  keys: Type.Array(Type.Unsafe<Record<string, unknown>>({ type: 'object', additionalProperties: true }), {
    examples: [[{ kty: 'OKP', crv: 'Ed25519', x: 'public', kid: 'a1', alg: 'EdDSA', use: 'sig' }]],
  }),
})
const Uri = Type.String({ examples: ['https://auth.example.com/oauth/token'] })
const Words = Type.Array(Type.String(), { examples: [['password']] })
const Metadata = named('AuthorizationServerMetadata', {
  issuer: Uri,
  token_endpoint: Uri,
  revocation_endpoint: Uri,
  introspection_endpoint: Uri,
  jwks_uri: Uri,
  response_types_supported: Words,
  grant_types_supported: Words,
  token_endpoint_auth_methods_supported: Words,
  revocation_endpoint_auth_methods_supported: Words,
  introspection_endpoint_auth_methods_supported: Words,
})
const DiscoveryMetadata = Type.Object({
  ...Metadata.properties,
  subject_types_supported: Words,
  id_token_signing_alg_values_supported: Words,
})

const open = { access: 'public', oauthErrors: true } as const
const path = '/.well-known/oauth-authorization-server'

/** What clients discover: the public keys (RFC 7517) and the endpoints (RFC 8414). Its paths begin with `at`. */
const oauthMetadata: FastifyPluginAsyncTypebox<ContractOptions & { at: string }> = async (app, { issuer, at }) => {
  // Both may be kept, unlike every other reply.
  app.addHook('onSend', async (_request, reply) => {
    if (reply.statusCode === 200) reply.removeHeader('pragma').header('cache-control', 'public, max-age=300')
  })

  app.get(
    `${at}/.well-known/jwks.json`,
    {
      config: open,
      schema: {
        operationId: 'getKeySet',
        summary: 'Public keys of the access tokens (RFC 7517)',
        description: 'Empty with HS256; holds the next key before it signs.',
        tags: ['oauth'],
        security: [],
        response: { 200: KeySet, ...problems([400]) },
      },
    },
    async () => {
      // Verifiers ask when they meet a new key, which another instance may have made; what is known serves in an outage.
      await app.keyRing.refresh().catch(() => {})
      return { keys: app.keyRing.publicKeys() }
    },
  )

  const schema = {
    operationId: 'getServerMetadata',
    summary: 'Metadata (RFC 8414)',
    description: 'For clients that discover the endpoints.',
    tags: ['oauth'],
    security: [],
    response: { 200: Metadata, ...problems([400]) },
  }
  app.get(`${at}${path}`, { config: open, schema }, metadata)
  // RFC 8414 §3.1: where clients look, the path of the issuer comes last and no prefix first.
  const issuerPath = new URL(issuer).pathname.replace(/^\/$/, '')
  for (const url of new Set([`${path}${issuerPath}`, `${at}${path}${issuerPath}`]))
    if (url !== `${at}${path}`)
      app.get(url, { config: open, schema: { hide: true, response: schema.response } }, metadata)

  // Libraries for verifiers look here (OpenID Connect Discovery 1.0, §4) and want to know the algorithm; there are no ID tokens.
  for (const url of new Set(['', at].map((prefix) => `${prefix}/.well-known/openid-configuration`)))
    app.get(url, { config: open, schema: { hide: true, response: { 200: DiscoveryMetadata } } }, async () => ({
      ...(await metadata()),
      subject_types_supported: ['public'],
      id_token_signing_alg_values_supported: [app.keyRing.algorithm],
    }))

  async function metadata() {
    const base = `${issuer}${at}`
    return {
      issuer,
      token_endpoint: `${base}/oauth/token`,
      revocation_endpoint: `${base}/oauth/revoke`,
      introspection_endpoint: `${base}/oauth/introspect`,
      jwks_uri: `${base}/.well-known/jwks.json`,
      response_types_supported: [],
      grant_types_supported: ['password', 'refresh_token'],
      token_endpoint_auth_methods_supported: ['none', 'client_secret_basic', 'client_secret_post'],
      revocation_endpoint_auth_methods_supported: ['none', 'client_secret_basic', 'client_secret_post'],
      introspection_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post'],
    }
  }
}

export default oauthMetadata

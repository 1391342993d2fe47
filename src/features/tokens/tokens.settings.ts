import { publishedSecrets } from '#src/published-secrets.ts'
import { group, howToMakeOne, oneOf, optional, setting, text, whole } from '#src/settings.ts'
import { publicUrlFault } from '#src/urls.ts'

/** Access tokens: who issues them, for whom, and the keys. */
export const tokenSettings = group(
  {
    publicUrl: setting('PUBLIC_URL', optional(), {
      says: 'how clients reach the service, without a slash at the end; the issuer (`iss`) of every token',
      without: '`http://localhost:PORT`',
      example: 'How clients reach the service, without a slash at the end: https://auth.example.com',
      fault: publicUrlFault,
    }),
    /** `undefined`: the key that is made and kept in `DATA_DIR`. */
    secretKey: setting('SECRET_KEY', optional(), {
      says:
        'signs access tokens and is the root of derived keys; 32 bytes or more. ' +
        '`JWT_SECRET` is another name for it',
      without: 'made and kept in `DATA_DIR`',
      example: howToMakeOne,
      secret: true,
      also: 'JWT_SECRET',
    }),
    secretKeyPrevious: setting('SECRET_KEY_PREVIOUS', optional(), {
      says: 'the key before or after a change of key: verifies, does not sign',
      example: 'Only while SECRET_KEY is being changed, see docs/operations.md.',
      secret: true,
    }),
    algorithm: setting('ALGORITHM', oneOf(['HS256', 'ES256', 'EdDSA', 'RS256'], 'HS256'), {
      says: 'JWS algorithm of access tokens: `HS256`, `ES256`, `EdDSA`, `RS256`; see [keys](docs/keys.md)',
      example: 'How access tokens are signed, see docs/keys.md.',
    }),
    /** Days after which a signing key is replaced by itself; 0: never. */
    signingKeyRotateDays: setting('SIGNING_KEY_ROTATE_DAYS', whole(0, 3650, 0), {
      says: 'replaces the signing key by itself after so many days; 0: never',
    }),
    audience: setting('JWT_AUDIENCE', text('latchkey'), { says: 'audience (`aud`) of access tokens' }),
    accessTokenSeconds: setting('ACCESS_TOKEN_EXPIRE_MINUTES', whole(1, 1440, 30), {
      says: 'lifetime of an access token, 1–1440',
      read: (minutes) => minutes * 60,
    }),
  },
  (values, { production, faults, warnings }) => {
    if (production && values.publicUrl === undefined)
      faults.push('PUBLIC_URL: is required in production; it is the issuer of every token')
    const keys = { SECRET_KEY: values.secretKey, SECRET_KEY_PREVIOUS: values.secretKeyPrevious }
    for (const [name, key] of Object.entries(keys)) {
      const weakness = weaknessOf(key)
      if (weakness !== undefined) (production ? faults : warnings).push(`${name}: ${weakness}`)
    }
    return values
  },
)

/** RFC 7518 §3.2: an HS256 key has at least the size of the hash output, 256 bits. */
function weaknessOf(secret: string | undefined): string | undefined {
  if (secret === undefined) return undefined
  if (Buffer.byteLength(secret) < 32) return 'is shorter than 32 bytes'
  if (publishedSecrets.has(secret) || new Set(secret).size < 8)
    return 'has been published or is too simple; make one with `openssl rand -hex 32`'
  return undefined
}

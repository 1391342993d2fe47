import { createHash, createPublicKey, generateKeyPair } from 'node:crypto'
import { promisify } from 'node:util'
import type { StoredKey } from './signing-keys.sql.ts'
import { seal, unseal } from '#src/db/sealing.ts'

const generate = promisify(generateKeyPair)
const purpose = 'signing-keys'

export type Algorithm = 'HS256' | 'ES256' | 'EdDSA' | 'RS256'

/** A key as the token functions use it, a secret or PEM; its moments are by `performance.now()`. */
export interface RingKey {
  readonly kid: string
  readonly algorithm: Algorithm
  /** Absent when it was sealed under a secret that is gone: its tokens still verify. */
  readonly signWith: string | undefined
  readonly verifyWith: string
  readonly madeAt: number
  readonly signsFrom: number
  /** `Infinity` while it is the newest of its algorithm. */
  readonly verifiesUntil: number
}

export type SigningKey = RingKey & { readonly signWith: string }

/** Reads a stored key with the secrets, of which the first signs; `undefined` for HS256 with a secret that is none of them. */
export function openKey(stored: StoredKey, secrets: readonly string[]): RingKey | undefined {
  const { kid, algorithm, publicKey, privateKey, madeInMs, signsInMs, verifiesForMs } = stored
  const now = performance.now()
  const moments = {
    madeAt: now + madeInMs,
    signsFrom: now + signsInMs,
    verifiesUntil: now + (verifiesForMs ?? Infinity),
  }
  if (algorithm !== 'HS256') {
    const signWith = unseal(privateKey, secrets, purpose)
    return { kid, algorithm: algorithm as Algorithm, signWith, verifyWith: publicKey, ...moments }
  }
  const secret = secrets.find((secret) => secretRowOf(secret) === kid)
  if (secret === undefined) return undefined
  return {
    kid: kidOf(secret),
    algorithm,
    signWith: secret === secrets[0] ? secret : undefined,
    verifyWith: secret,
    ...moments,
  }
}

/** Makes a key pair, its private part sealed. */
export async function makeKey(algorithm: Algorithm, secret: string) {
  const { publicKey, privateKey } = await keyPair(algorithm)
  const kid = createHash('sha256').update(publicKey).digest('base64url').slice(0, 16)
  return { kid, algorithm, publicKey, privateKey: seal(privateKey, secret, purpose) }
}

/**
 * What the row of a key is called. Version 0.1 takes every row for a key pair: under the `kid` of tokens that of HS256
 * would stand in front of the secret, and an instance of that version would refuse them.
 */
export function rowOf({ algorithm, kid }: Pick<RingKey, 'algorithm' | 'kid'>): string {
  return algorithm === 'HS256' ? `HS256:${kid}` : kid
}

/** What the row of the HS256 key is called that a secret is. */
export function secretRowOf(secret: string): string {
  return rowOf({ algorithm: 'HS256', kid: kidOf(secret) })
}

/** The id of the HS256 key that a secret is; it names the key and tells nothing of it. */
function kidOf(secret: string): string {
  return createHash('sha256').update(`kid:${secret}`).digest('base64url').slice(0, 16)
}

/** The public key (RFC 7517); none for HS256. */
export function publicKeyOf({ kid, algorithm, verifyWith }: RingKey): Record<string, unknown>[] {
  if (algorithm === 'HS256') return []
  return [{ ...createPublicKey(verifyWith).export({ format: 'jwk' }), kid, alg: algorithm, use: 'sig' }]
}

/** The protected header (RFC 9068 §2.1) as @fastify/jwt writes it, encoded. */
export function headerOf({ kid, algorithm }: RingKey): string {
  return Buffer.from(JSON.stringify({ alg: algorithm, typ: 'at+jwt', kid })).toString('base64url')
}

const headerShape = /^\{"alg":"(HS256|ES256|EdDSA|RS256)","typ":"at\+jwt","kid":"[\w-]{16}"\}$/

/** Whether `headerOf` writes such headers, so that a key of that name may be stored. */
export function isHeader(text: string): boolean {
  return text.length < 100 && headerShape.test(Buffer.from(text, 'base64url').toString())
}

const encoding = {
  publicKeyEncoding: { type: 'spki', format: 'pem' },
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
} as const

function keyPair(algorithm: Algorithm): Promise<{ publicKey: string; privateKey: string }> {
  if (algorithm === 'ES256') return generate('ec', { namedCurve: 'P-256', ...encoding })
  if (algorithm === 'EdDSA') return generate('ed25519', encoding)
  return generate('rsa', { modulusLength: 3072, ...encoding })
}

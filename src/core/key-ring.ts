import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createPublicKey,
  generateKeyPair,
  randomBytes,
} from 'node:crypto'
import { promisify } from 'node:util'
import type { Database } from '#src/db/client.ts'
import {
  addFirstSigningKey,
  liveSigningKeys,
  rotateSigningKey,
  type StoredKey,
  sweepSigningKeys,
} from '#src/db/signing-keys.ts'
import { deriveKey } from './tokens.ts'

const generate = promisify(generateKeyPair)

export type Algorithm = 'HS256' | 'ES256' | 'EdDSA' | 'RS256'

/** A key as the token functions use it: a secret, or PEM. */
export interface RingKey {
  readonly kid: string
  readonly algorithm: Algorithm
  /** Absent when it was sealed under a key that is gone: its tokens still verify. */
  readonly signWith: string | undefined
  readonly verifyWith: string
  /** By `performance.now()`. */
  readonly signsFrom: number
  readonly createdAt: Date
  readonly retired: boolean
}

export type SigningKey = RingKey & { readonly signWith: string }

/** A published key, for the time that verifiers may hold on to a copy of the key set and instances to theirs. */
export const publicationLeadSeconds = 600

/**
 * The keys of access tokens: the HS256 key of `SECRET_KEY` and its predecessor, and those that Postgres keeps for the
 * other algorithms, private parts sealed with AES-256-GCM under a key derived from `SECRET_KEY`.
 */
export class KeyRing {
  #keys = new Map<string, RingKey>()
  #signers: SigningKey[] = []
  readonly #db: Database
  readonly #secrets: readonly string[]
  readonly #algorithm: Algorithm
  readonly #tokenSeconds: number

  constructor(db: Database, secrets: readonly string[], algorithm: Algorithm, tokenSeconds: number) {
    this.#db = db
    this.#secrets = secrets
    this.#algorithm = algorithm
    this.#tokenSeconds = tokenSeconds
  }

  get keys(): readonly RingKey[] {
    return [...this.#keys.values()]
  }

  /** The key whose tokens have this header, as it stands encoded in them; one key has one header. */
  find(header: string): RingKey | undefined {
    return this.#keys.get(header)
  }

  /** The newest key of the configured algorithm that may sign by now; before its time only if there is no other. */
  signer(): SigningKey {
    const now = performance.now()
    const key = this.#signers.find(({ signsFrom }) => signsFrom <= now) ?? this.#signers.at(-1)
    if (!key) throw new Error('there is no key to sign with')
    return key
  }

  /** The public keys (RFC 7517), also of the next one, which verifiers learn of before it signs. */
  publicKeys(): Record<string, unknown>[] {
    return this.keys.flatMap(({ kid, algorithm, verifyWith }) =>
      algorithm === 'HS256'
        ? []
        : [{ ...createPublicKey(verifyWith).export({ format: 'jwk' }), kid, alg: algorithm, use: 'sig' }],
    )
  }

  /** Reads the keys anew; makes the first one, and one that can sign when `SECRET_KEY` no longer opens the others. */
  async load(): Promise<void> {
    await this.#read()
    if (this.#algorithm === 'HS256') return
    if (!this.keys.some(({ algorithm, retired }) => algorithm === this.#algorithm && !retired)) {
      await this.#db.rows(addFirstSigningKey, await this.#newKey())
      await this.#read()
    }
    if (this.#signers.length === 0) await this.rotate({ leadSeconds: 0 })
  }

  /** Publishes a new key that signs after `leadSeconds`; resolves to whether the newest was old enough for it. */
  async rotate({ leadSeconds = publicationLeadSeconds, minAgeSeconds = 0 } = {}): Promise<boolean> {
    if (this.#algorithm === 'HS256') return false
    const timing = { leadSeconds, minAgeSeconds, tokenSeconds: this.#tokenSeconds + 60 }
    const added = await this.#db.row(rotateSigningKey, { ...(await this.#newKey()), ...timing })
    await this.#db.rows(sweepSigningKeys, {})
    await this.#read()
    return added !== undefined
  }

  #signs({ algorithm, signWith }: RingKey): boolean {
    return algorithm === this.#algorithm && signWith !== undefined
  }

  async #read(): Promise<void> {
    const stored = await this.#db.rows(liveSigningKeys, {})
    const keys = [...this.#secrets.map(secretKeyOf), ...stored.map((key) => this.#opened(key))]
    this.#keys = new Map(keys.map((key) => [headerOf(key), key]))
    this.#signers = keys.filter((key): key is SigningKey => this.#signs(key))
  }

  #opened({ kid, algorithm, publicKey, privateKey, createdAt, signsInMs, retired }: StoredKey): RingKey {
    const signWith = this.#secrets.map((secret) => unseal(privateKey, secret)).find((pem) => pem !== undefined)
    const signsFrom = performance.now() + signsInMs
    return { kid, algorithm: algorithm as Algorithm, signWith, verifyWith: publicKey, signsFrom, createdAt, retired }
  }

  async #newKey() {
    const [secret = ''] = this.#secrets
    const { publicKey, privateKey } = await keyPair(this.#algorithm)
    const kid = createHash('sha256').update(publicKey).digest('base64url').slice(0, 16)
    return { kid, algorithm: this.#algorithm, publicKey, privateKey: seal(privateKey, secret) }
  }
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

/** The protected header (RFC 9068 §2.1) as @fastify/jwt writes it. */
function headerOf({ kid, algorithm }: RingKey): string {
  return Buffer.from(JSON.stringify({ alg: algorithm, typ: 'at+jwt', kid })).toString('base64url')
}

/** The `kid` names the key and tells nothing of it. */
function secretKeyOf(secret: string, index: number): RingKey {
  const kid = createHash('sha256').update(`kid:${secret}`).digest('base64url').slice(0, 16)
  const signWith = index === 0 ? secret : undefined
  return {
    kid,
    algorithm: 'HS256',
    signWith,
    verifyWith: secret,
    signsFrom: 0,
    createdAt: new Date(0),
    retired: index > 0,
  }
}

function seal(text: string, secret: string): Buffer {
  const nonce = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', deriveKey(secret, 'signing-keys'), nonce)
  const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()])
  return Buffer.concat([nonce, cipher.getAuthTag(), sealed])
}

function unseal(sealed: Buffer, secret: string): string | undefined {
  try {
    const decipher = createDecipheriv('aes-256-gcm', deriveKey(secret, 'signing-keys'), sealed.subarray(0, 12))
    decipher.setAuthTag(sealed.subarray(12, 28))
    return Buffer.concat([decipher.update(sealed.subarray(28)), decipher.final()]).toString('utf8')
  } catch {
    return undefined
  }
}

import { setTimeout } from 'node:timers/promises'
import type { Database } from '#src/db/database.ts'
import {
  addFirstSigningKey,
  extendSigningKey,
  liveSigningKeys,
  retireOtherAlgorithms,
  retireSigningKey,
  rotateSigningKey,
  sweepSigningKeys,
  vouchForSecretKeys,
} from './signing-keys.sql.ts'
import {
  type Algorithm,
  headerOf,
  isHeader,
  makeKey,
  openKey,
  publicKeyOf,
  type RingKey,
  rowOf,
  secretRowOf,
  type SigningKey,
} from './signing-key.ts'

/** How long a key is published before it signs: as long as verifiers may hold on to a copy of the key set. */
export const publicationLeadSeconds = 600
/** How often `load` is to be called: no instance knows the keys of longer ago, nor lets one that it uses lapse. */
export const reloadEveryMs = 10_000
/** More than instances need to learn of a new key, so that a key verifies longer than its last token. */
const marginSeconds = 60
const refreshEveryMs = 1000

/**
 * The keys of access tokens, all of them known from the table `signing_keys`. A key of HS256 is `SECRET_KEY` or its
 * predecessor, and its row says how long it verifies: the instances that use HS256 extend that time while they run.
 */
export class KeyRing {
  #keys = new Map<string, RingKey>()
  #signers: SigningKey[] = []
  #nextRefresh: Promise<void> | undefined
  #refreshedAt = -Infinity
  readonly #db: Database
  readonly #secrets: readonly string[]
  /** The configured one; `current` may be a key of another. */
  readonly algorithm: Algorithm
  readonly #tokenSeconds: number

  constructor(db: Database, secrets: readonly string[], algorithm: Algorithm, tokenSeconds: number) {
    this.#db = db
    this.#secrets = secrets
    this.algorithm = algorithm
    this.#tokenSeconds = tokenSeconds
  }

  /** Of all algorithms, the one that signs last first. */
  get keys(): readonly RingKey[] {
    return [...this.#keys.values()]
  }

  /** The key whose tokens have this header, as it stands encoded in them; one key has one header. */
  find(header: string): RingKey | undefined {
    return this.#keys.get(header)
  }

  /** As `find`, for a header that it does not know: it may be that of a key which was stored a moment ago. */
  async look(header: string): Promise<RingKey | undefined> {
    if (!isHeader(header)) return undefined
    await this.refresh()
    return this.find(header)
  }

  /** Resolves after a `read` that began after the call, and that all callers share who wait for one. */
  refresh(): Promise<void> {
    this.#nextRefresh ??= this.#refreshWhenDue()
    return this.#nextRefresh
  }

  /**
   * The key that signs by now: the newest of the configured algorithm that may; until there is one, that of the former
   * algorithm; before its time only if there is no other.
   */
  current(): SigningKey | undefined {
    const now = performance.now()
    const due = this.#signers.filter(({ signsFrom }) => signsFrom <= now)
    return due.find(this.#isOwn) ?? due[0] ?? this.#signers.findLast(this.#isOwn)
  }

  /** The public keys (RFC 7517), also of the next one, which verifiers learn of before it signs. */
  publicKeys(): Record<string, unknown>[] {
    return this.keys.flatMap(publicKeyOf)
  }

  /** Reads the keys anew and changes nothing. */
  async read(): Promise<void> {
    const stored = await this.#db.rows(liveSigningKeys, { vouched: this.#ownSecretRows() })
    const keys = stored.flatMap((key) => openKey(key, this.#secrets) ?? [])
    this.#keys = new Map(keys.map((key) => [headerOf(key), key]))
    this.#signers = keys.filter((key): key is SigningKey => key.signWith !== undefined)
  }

  /** Reads the keys anew, makes the first one of the algorithm, and settles how long the others verify. */
  async load(): Promise<void> {
    await this.read()
    if (this.algorithm === 'HS256') await this.#vouchForSecrets()
    else if (!this.#signers.some(this.#isOwn)) await this.#addFirst()

    const seconds = this.#retirementSeconds()
    const current = this.current()
    // Whatever is configured elsewhere, a key that an instance signs with must not end before the tokens.
    if (current && this.#lapses(current)) await this.#db.rows(extendSigningKey, { kid: rowOf(current), seconds })
    if (this.keys.some((key) => !this.#isOwn(key) && key.verifiesUntil === Infinity))
      await this.#db.rows(retireOtherAlgorithms, { algorithm: this.algorithm, seconds })
  }

  /** Publishes a new key that signs after `leadSeconds`; resolves to whether the newest was old enough for it. */
  async rotate({ leadSeconds = publicationLeadSeconds, minAgeSeconds = 0 } = {}): Promise<boolean> {
    if (this.algorithm === 'HS256') return false
    const newest = this.keys.find(this.#isOwn)
    if (newest && performance.now() - newest.madeAt < minAgeSeconds * 1000) return false
    const timing = { leadSeconds, minAgeSeconds, seconds: this.#retirementSeconds(leadSeconds) }
    const added = await this.#db.row(rotateSigningKey, { ...(await this.#newKey()), ...timing })
    await this.#db.rows(sweepSigningKeys, {})
    await this.read()
    return added !== undefined
  }

  /** Ends a key at once; resolves to whether there was one. Other instances know when they `load`. */
  async retire(kid: string): Promise<boolean> {
    const key = this.keys.find((key) => key.kid === kid)
    const retired = key && (await this.#db.row(retireSigningKey, { kid: rowOf(key) }))
    await this.read()
    return retired !== undefined
  }

  async #refreshWhenDue(): Promise<void> {
    // Forged headers cost one statement a second, whatever their number.
    await setTimeout(Math.max(0, this.#refreshedAt + refreshEveryMs - performance.now()))
    // A key may be stored from here on that this read does not see: who comes now waits for another.
    this.#nextRefresh = undefined
    this.#refreshedAt = performance.now()
    await this.read()
  }

  async #vouchForSecrets(): Promise<void> {
    const rows = this.#ownSecretRows()
    const vouched = new Set(this.keys.flatMap((key) => (this.#lapses(key) ? [] : rowOf(key))))
    if (rows.every((row) => vouched.has(row))) return
    await this.#db.rows(vouchForSecretKeys, { kids: rows, seconds: this.#retirementSeconds() })
    await this.read()
  }

  async #addFirst(): Promise<void> {
    // Without a key of another algorithm, as in a new database or after a change of SECRET_KEY, it has to sign at once.
    const leadSeconds = this.current() ? publicationLeadSeconds : 0
    await this.#db.rows(addFirstSigningKey, { ...(await this.#newKey()), leadSeconds })
    await this.read()
    // There was one, which SECRET_KEY does not open.
    if (!this.#signers.some(this.#isOwn)) await this.rotate({ leadSeconds })
  }

  #ownSecretRows(): string[] {
    return this.algorithm === 'HS256' ? this.#secrets.map(secretRowOf) : []
  }

  readonly #isOwn = ({ algorithm }: RingKey): boolean => algorithm === this.algorithm

  /** Whether a token that is signed now could outlive the key. */
  #lapses({ verifiesUntil }: RingKey): boolean {
    return verifiesUntil - performance.now() < (this.#tokenSeconds + marginSeconds) * 1000
  }

  #retirementSeconds(leadSeconds = publicationLeadSeconds): number {
    return leadSeconds + this.#tokenSeconds + marginSeconds
  }

  #newKey() {
    return makeKey(this.algorithm, this.#secrets[0] ?? '')
  }
}

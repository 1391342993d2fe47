import { recordKeyChange } from '#src/features/audit/audit.ts'
import { KeyRing, publicationLeadSeconds, reloadEveryMs } from '#src/features/tokens/key-ring.ts'
import type { RingKey } from '#src/features/tokens/signing-key.ts'
import { Database } from '#src/db/database.ts'
import type { Context } from './command.ts'
import { shell } from './core.ts'
import { requireSchema } from './database.ts'
import { Failure, UsageError } from './failure.ts'

interface StoredKeys {
  readonly db: Database
  readonly ring: KeyRing
}

/** `keys list|rotate [--now]|retire KID`: shows the signing keys, publishes the next one, or ends one. */
export async function keys(
  context: Context,
  [action, kid]: readonly [string, string | undefined],
  { now = false }: { readonly now?: boolean | undefined },
): Promise<string> {
  if (action === 'list' && kid === undefined && !now) return withRing(context, ({ ring }) => listKeys(ring))
  if (action === 'rotate' && kid === undefined) return withRing(context, (stored) => rotateKeys(stored, { now }))
  if (action === 'retire' && kid !== undefined && !now) return withRing(context, (stored) => retireKey(stored, kid))
  throw new UsageError('keys list | keys rotate [--now] | keys retire KID')
}

/** A line for each key: its id, its algorithm and what it does now. */
async function listKeys(ring: KeyRing): Promise<string> {
  const current = ring.current()?.kid
  const lines = ring.keys.map((key) => `${key.kid}  ${key.algorithm.padEnd(5)}  ${stateOf(key, current)}`)
  return lines.join('\n') || 'No key yet; the service makes the first one when it starts.'
}

/** Publishes the next key, which signs after ten minutes, or at once. */
async function rotateKeys({ db, ring }: StoredKeys, { now = false } = {}): Promise<string> {
  if (ring.algorithm === 'HS256')
    throw new UsageError('ALGORITHM=HS256 signs with SECRET_KEY; rotate that with SECRET_KEY_PREVIOUS')
  const leadSeconds = now ? 0 : publicationLeadSeconds
  await ring.rotate({ leadSeconds })
  // The last to sign is the newest.
  const newest = ring.keys
    .filter(({ algorithm }) => algorithm === ring.algorithm)
    .toSorted((a, b) => b.signsFrom - a.signsFrom)[0]
  if (newest) await recordKeyChange({ db }, 'signing_key.rotated', newest.kid, shell)
  return now
    ? 'The next key is published and signs now.'
    : `The next key is published and signs in ${inMinutes(leadSeconds)}.`
}

/** Ends a key that does not sign; its tokens are refused from then on. */
async function retireKey({ db, ring }: StoredKeys, kid: string): Promise<string> {
  if (ring.current()?.kid === kid)
    throw new Failure(
      `${kid} signs. Let another key sign first: keys rotate --now, or another ALGORITHM or SECRET_KEY.`,
    )
  if (!(await ring.retire(kid))) throw new Failure(`There is no key ${kid}; see: keys list`)
  await recordKeyChange({ db }, 'signing_key.retired', kid, shell)
  return `${kid} has ended; every instance knows within ${reloadEveryMs / 1000} seconds.`
}

/** Runs `use` with the keys as they are stored; none is made. */
async function withRing({ config }: Context, use: (stored: StoredKeys) => Promise<string>): Promise<string> {
  const { secretKey, secretKeyPrevious, algorithm, accessTokenSeconds } = config.tokens
  await requireSchema(config)
  const db = new Database(config.database.url, 1)
  try {
    const secrets = [secretKey, ...(secretKeyPrevious ? [secretKeyPrevious] : [])]
    const ring = new KeyRing(db, secrets, algorithm, accessTokenSeconds)
    await ring.read()
    return await use({ db, ring })
  } finally {
    await db.close()
  }
}

function stateOf({ kid, signsFrom, verifiesUntil }: RingKey, current: string | undefined): string {
  const now = performance.now()
  if (kid === current) return 'signs'
  if (signsFrom > now) return `signs in ${inMinutes((signsFrom - now) / 1000)}`
  return verifiesUntil === Infinity ? 'verifies' : `verifies for ${inMinutes((verifiesUntil - now) / 1000)}`
}

function inMinutes(seconds: number): string {
  const minutes = Math.max(1, Math.ceil(seconds / 60))
  return minutes === 1 ? 'a minute' : `${minutes} minutes`
}

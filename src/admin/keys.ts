import { KeyRing, publicationLeadSeconds, reloadEveryMs } from '#src/core/key-ring.ts'
import type { RingKey } from '#src/core/signing-key.ts'
import { Database } from '#src/db/client.ts'
import type { Settled } from '#src/settle.ts'
import { type Command, Failure, requireSchema, UsageError } from './command.ts'

const usage = 'keys list | keys rotate [--now] | keys retire KID'

/** `keys list|rotate [--now]|retire KID`: shows the signing keys, publishes the next one, or ends one. */
export const keys: Command = async (settled, [action, ...rest]) => {
  const [word, ...others] = rest
  if (action === 'list' && word === undefined) return withRing(settled, listKeys)
  if (action === 'rotate' && (word === undefined || word === '--now') && others.length === 0)
    return withRing(settled, (ring) => rotateKeys(ring, { now: word === '--now' }))
  if (action === 'retire' && word !== undefined && others.length === 0)
    return withRing(settled, (ring) => retireKey(ring, word))
  throw new UsageError(usage)
}

/** A line for each key: its id, its algorithm and what it does now. */
async function listKeys(ring: KeyRing): Promise<string> {
  const current = ring.current()?.kid
  const lines = ring.keys.map((key) => `${key.kid}  ${key.algorithm.padEnd(5)}  ${stateOf(key, current)}`)
  return lines.join('\n') || 'No key yet; the service makes the first one when it starts.'
}

/** Publishes the next key, which signs after ten minutes, or at once. */
async function rotateKeys(ring: KeyRing, { now = false } = {}): Promise<string> {
  if (ring.algorithm === 'HS256')
    throw new UsageError('ALGORITHM=HS256 signs with SECRET_KEY; rotate that with SECRET_KEY_PREVIOUS')
  const leadSeconds = now ? 0 : publicationLeadSeconds
  await ring.rotate({ leadSeconds })
  return now
    ? 'The next key is published and signs now.'
    : `The next key is published and signs in ${inMinutes(leadSeconds)}.`
}

/** Ends a key that does not sign; its tokens are refused from then on. */
async function retireKey(ring: KeyRing, kid: string): Promise<string> {
  if (ring.current()?.kid === kid)
    throw new Failure(
      `${kid} signs. Let another key sign first: keys rotate --now, or another ALGORITHM or SECRET_KEY.`,
    )
  if (!(await ring.retire(kid))) throw new Failure(`There is no key ${kid}; see: keys list`)
  return `${kid} has ended; every instance knows within ${reloadEveryMs / 1000} seconds.`
}

/** Runs `use` with the keys as they are stored; none is made. */
async function withRing(settled: Settled, use: (ring: KeyRing) => Promise<string>): Promise<string> {
  const { databaseUrl, secretKey, secretKeyPrevious, algorithm, accessTokenSeconds } = settled.config
  await requireSchema(settled.config)
  const db = new Database(databaseUrl, 1)
  try {
    const secrets = [secretKey, ...(secretKeyPrevious ? [secretKeyPrevious] : [])]
    const ring = new KeyRing(db, secrets, algorithm, accessTokenSeconds)
    await ring.read()
    return await use(ring)
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

import { createHmac, type KeyObject, randomBytes } from 'node:crypto'
import type { OneTimePurpose } from '#src/features/mail/mails.ts'
import type { Core } from '#src/features/core.ts'
import { digestOf } from '#src/features/tokens/tokens.ts'

/** What goes into the database when a link is queued: nothing from which the link can be made without the key. */
export interface OneTimeSeed extends Record<string, unknown> {
  readonly nonce: string
  readonly digest: Buffer
}

const tokenShape = /^lko_([A-Za-z0-9_-]{43})$/

/** A new secret of 256 bits under a key; only its digest and the nonce that it is derived from leave this function. */
function seedOneTimeToken(key: KeyObject, purpose: OneTimePurpose): OneTimeSeed {
  const nonce = randomBytes(32).toString('base64url')
  return { nonce, digest: digestOf(secretOf(key, purpose, nonce)) }
}

/** The seed of a link under the current key. */
export function newLink({ mail }: Pick<Core, 'mail'>, purpose: OneTimePurpose): OneTimeSeed {
  const [key] = mail.oneTimeKeys
  if (!key) throw new Error('there is no key for one-time tokens')
  return seedOneTimeToken(key, purpose)
}

/** The token whose digest is stored, or `undefined` when none of the keys gives it. */
export function oneTimeTokenOf(
  keys: readonly KeyObject[],
  purpose: OneTimePurpose,
  nonce: string,
  digest: Buffer,
): string | undefined {
  const secret = keys.map((key) => secretOf(key, purpose, nonce)).find((secret) => digestOf(secret).equals(digest))
  return secret && `lko_${secret.toString('base64url')}`
}

/** The digest of a token that somebody sent; `undefined` unless it has exactly the form of one. */
export function oneTimeDigestOf(token: string): Buffer | undefined {
  const [, text = ''] = tokenShape.exec(token) ?? []
  const secret = Buffer.from(text, 'base64url')
  return secret.toString('base64url') === text && text !== '' ? digestOf(secret) : undefined
}

function secretOf(key: KeyObject, purpose: OneTimePurpose, nonce: string): Buffer {
  return createHmac('sha256', key).update(Buffer.from(nonce, 'base64url')).update(purpose).digest()
}

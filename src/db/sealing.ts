import { createCipheriv, createDecipheriv, createSecretKey, hkdfSync, type KeyObject, randomBytes } from 'node:crypto'

const keyIdBytes = 4

/** Encrypts a text with AES-256-GCM under a key of its own purpose, whose id stands in front. */
export function seal(text: string, secret: string, purpose: string): Buffer {
  const nonce = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', deriveKey(secret, purpose), nonce)
  const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()])
  return Buffer.concat([keyIdOf(secret, purpose), nonce, cipher.getAuthTag(), sealed])
}

/** The text that was sealed under one of the secrets; `undefined` when it was under none of them, or was changed. */
export function unseal(sealed: Buffer, secrets: readonly string[], purpose: string): string | undefined {
  const secret = secrets.find((secret) => keyIdOf(secret, purpose).equals(sealed.subarray(0, keyIdBytes)))
  if (secret !== undefined) return open(sealed.subarray(keyIdBytes), secret, purpose)
  // Version 0.1 wrote no id.
  return secrets.map((former) => open(sealed, former, purpose)).find((text) => text !== undefined)
}

/** A key of 32 bytes for one purpose (RFC 5869, HKDF-SHA256). Node takes a `Buffer` apart at each use, at the cost of two hashes. */
export function deriveKey(secretKey: string, purpose: string): KeyObject {
  return createSecretKey(Buffer.from(hkdfSync('sha256', secretKey, '', purpose, 32)))
}

function open(sealed: Buffer, secret: string, purpose: string): string | undefined {
  try {
    const decipher = createDecipheriv('aes-256-gcm', deriveKey(secret, purpose), sealed.subarray(0, 12))
    decipher.setAuthTag(sealed.subarray(12, 28))
    return Buffer.concat([decipher.update(sealed.subarray(28)), decipher.final()]).toString('utf8')
  } catch {
    return undefined
  }
}

/** Tells the keys of a purpose apart, and nothing about them. */
function keyIdOf(secret: string, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, '', `${purpose} key id`, keyIdBytes))
}

import { describe, expect, test } from 'vitest'
import { seal, unseal } from '#src/db/sealing.ts'

const text = 'a private key'
const secret = 'a secret'
const others = ['another secret', 'a third one']
const sealed = seal(text, secret, 'a purpose')

describe('a text that was sealed', () => {
  test('is opened by its secret, wherever it stands, for its purpose, unchanged', () => {
    expect(unseal(sealed, [secret], 'a purpose')).toBe(text)
    expect(unseal(sealed, [...others, secret], 'a purpose')).toBe(text)
    expect(unseal(sealed, others, 'a purpose')).toBeUndefined()
    expect(unseal(sealed, [secret], 'another purpose')).toBeUndefined()
    for (let at = 0; at < sealed.length; at++) {
      const changed = Buffer.from(sealed)
      changed.writeUInt8(changed.readUInt8(at) ^ 1, at)
      expect([at, unseal(changed, [secret], 'a purpose')]).toEqual([at, undefined])
    }
  })

  test('begins with the id of its key, which depends on the secret and on the purpose', () => {
    const idOf = (...[key, purpose]: [string, string]) => seal('', key, purpose).toString('hex', 0, 4)
    const ids = [secret, ...others].flatMap((key) => [idOf(key, 'a purpose'), idOf(key, 'another purpose')])
    expect(new Set(ids).size).toBe(6)
    expect(idOf(secret, 'a purpose')).toBe(ids[0])
  })

  test('is opened without an id, too, as version 0.1 wrote it', () => {
    expect(unseal(sealed.subarray(4), [...others, secret], 'a purpose')).toBe(text)
    expect(unseal(sealed.subarray(4), others, 'a purpose')).toBeUndefined()
  })

  test('has a nonce of its own, or two texts under one key would give each other away (NIST SP 800-38D §8)', () => {
    const nonces = Array.from({ length: 100 }, () => seal(text, secret, 'a purpose').toString('hex', 4, 16))
    expect(new Set(nonces).size).toBe(100)
  })
})

import { describe, expect, test } from 'vitest'
import { seal, unseal } from '#src/db/sealing.ts'

const text = 'a private key'
const sealed = seal(text, 'a secret', 'a purpose')

describe('a text that was sealed', () => {
  test('is opened by its secret, for its purpose, unchanged', () => {
    expect(unseal(sealed, 'a secret', 'a purpose')).toBe(text)
    expect(unseal(sealed, 'another secret', 'a purpose')).toBeUndefined()
    expect(unseal(sealed, 'a secret', 'another purpose')).toBeUndefined()
    for (let at = 0; at < sealed.length; at++) {
      const changed = Buffer.from(sealed)
      changed.writeUInt8(changed.readUInt8(at) ^ 1, at)
      expect([at, unseal(changed, 'a secret', 'a purpose')]).toEqual([at, undefined])
    }
  })

  test('has a nonce of its own, or two texts under one key would give each other away (NIST SP 800-38D §8)', () => {
    const nonces = Array.from({ length: 100 }, () => seal(text, 'a secret', 'a purpose').toString('hex', 0, 12))
    expect(new Set(nonces).size).toBe(100)
  })
})

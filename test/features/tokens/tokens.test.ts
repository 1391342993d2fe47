import { deriveKey } from '#src/db/sealing.ts'
import { createHash, createHmac, createSecretKey, randomBytes, randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  digestOf,
  firstRefreshToken,
  formatRefreshToken,
  parseRefreshToken,
  successorOf,
} from '#src/features/tokens/tokens.ts'

const sessionId = '019a3b92-ad1f-751a-89a7-4998737bc2e6'
const secret = Buffer.alloc(32, 7)
const text = 'lkr_AZo7kq0fdRqJp0mYc3vC5g.3.BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc'

describe('a refresh token', () => {
  test('reads prefix, session, generation, secret', () => {
    expect(formatRefreshToken({ sessionId, generation: 3, secret })).toBe(text)
    expect(parseRefreshToken(text)).toEqual({ sessionId, generation: 3, secret })
  })

  test('is read as it was written, whatever it holds', () => {
    const tokens = fc.record({
      sessionId: fc.uuid(),
      generation: fc.integer({ min: 0, max: 999_999_999 }),
      secret: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes)),
    })
    fc.assert(
      fc.property(tokens, (token) => {
        expect(parseRefreshToken(formatRefreshToken(token))).toEqual(token)
      }),
    )
  })

  test('has one spelling: nothing else is read as one', () => {
    for (const other of [
      ` ${text}`,
      `${text}\n`,
      `${text}=`,
      text.replace('.3.', '.03.'),
      text.replace('.3.', '.-3.'),
      text.replace('.3.', '.1234567890.'),
      text.replace('lkr_', 'LKR_'),
      // The last character of 32 bytes holds two bits that are not used, that of 16 bytes four.
      text.replace(/c$/, 'd'),
      text.replace('C5g.', 'C5h.'),
      text.slice(0, -1),
      `${text}.1`,
    ])
      expect([other, parseRefreshToken(other)]).toEqual([other, undefined])
  })

  test('of a new session has a random secret of 32 bytes', () => {
    const secrets = Array.from({ length: 100 }, () => firstRefreshToken(sessionId).secret.toString('hex'))
    expect(new Set(secrets).size).toBe(100)
    expect(secrets[0]).toHaveLength(64)
  })
})

describe('the successor of a refresh token', () => {
  const presented = { sessionId, generation: 3, secret }
  const salt = Buffer.alloc(16, 1)
  const key = createSecretKey(Buffer.alloc(32, 2))

  test('is HMAC-SHA256 of secret, salt, session and generation', () => {
    const hmac = createHmac('sha256', key).update(Buffer.concat([secret, salt, Buffer.from(`${sessionId}4`)]))
    expect(successorOf(presented, salt, key)).toEqual({ sessionId, generation: 4, secret: hmac.digest() })
  })

  test('is another one when anything is', () => {
    const others = [
      successorOf({ ...presented, secret: randomBytes(32) }, salt, key),
      successorOf({ ...presented, generation: 4 }, salt, key),
      successorOf({ ...presented, sessionId: randomUUID() }, salt, key),
      successorOf(presented, randomBytes(16), key),
      successorOf(presented, salt, createSecretKey(randomBytes(32))),
    ]
    const all = [successorOf(presented, salt, key), ...others].map((token) => token.secret.toString('hex'))
    expect(new Set(all).size).toBe(6)
  })

  test('cannot be made from what the database holds', () => {
    const stolen = { ...presented, secret: digestOf(secret) }
    expect(successorOf(stolen, salt, key).secret).not.toEqual(successorOf(presented, salt, key).secret)
  })
})

describe('what is stored of a secret', () => {
  test('is its SHA-256', () => {
    expect(digestOf(secret)).toEqual(createHash('sha256').update(secret).digest())
  })
})

describe('a derived key', () => {
  test('is HKDF-SHA256, one for each purpose', () => {
    // RFC 5869 §2 by hand: extract with a salt of zeros, expand by one block.
    const extracted = createHmac('sha256', Buffer.alloc(32)).update('the key').digest()
    const expanded = createHmac('sha256', extracted).update('refresh-successor').update(Buffer.of(1)).digest()
    expect(deriveKey('the key', 'refresh-successor').export()).toEqual(expanded)
    expect(deriveKey('the key', 'another purpose').export()).not.toEqual(expanded)
  })
})

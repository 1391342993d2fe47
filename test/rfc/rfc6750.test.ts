import { createHmac } from 'node:crypto'
import { decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose'
import { describe, expect, test } from 'vitest'
import { get, signedUp } from '#test/support/actors.ts'
import { secretKey, startService } from '#test/support/service.ts'

const { app } = await startService()
const { tokens } = await signedUp(app)
const good = tokens.access_token
const header = decodeProtectedHeader(good)
const claims = decodeJwt(good)
const me = (authorization?: string) => get(app, '/api/v1/me', authorization === undefined ? {} : { authorization })

const encode = (part: unknown) =>
  Buffer.from(typeof part === 'string' ? part : JSON.stringify(part)).toString('base64url')
const sign = (head: unknown, body: unknown, { key = secretKey, hash = 'sha256' } = {}) => {
  const input = `${encode(head)}.${encode(body)}`
  return `${input}.${createHmac(hash, key).update(input).digest('base64url')}`
}
/** The next character of base64url; after that of a signature it differs in the unused bits only. */
const next = (character = '') => {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  return alphabet[alphabet.indexOf(character) + 1] ?? ''
}
const without = (name: string) => Object.fromEntries(Object.entries(claims).filter(([claim]) => claim !== name))
const hour = Math.floor(Date.now() / 1000) + 3600

/** Signed with the right key but for what the name says. */
const forgeries: Record<string, string> = {
  'alg none': `${encode({ ...header, alg: 'none' })}.${encode(claims)}.`,
  'alg none with a signature': sign({ ...header, alg: 'none' }, claims),
  'alg HS384': sign({ ...header, alg: 'HS384' }, claims, { hash: 'sha384' }),
  'alg HS512': sign({ ...header, alg: 'HS512' }, claims, { hash: 'sha512' }),
  'alg in small letters': sign({ ...header, alg: 'hs256' }, claims),
  'alg RS256': sign({ ...header, alg: 'RS256' }, claims),
  'another key': sign(header, claims, { key: 'another-key-0123456789-0123456789-0123' }),
  'an empty key': sign(header, claims, { key: '' }),
  'an unknown kid': sign({ ...header, kid: 'unknown' }, claims),
  'no kid': sign({ alg: 'HS256', typ: 'at+jwt' }, claims),
  'a kid that is a path': sign({ ...header, kid: '../../dev/null' }, claims),
  'a jwk of its own': sign({ ...header, jwk: { kty: 'oct', k: encode('x') } }, claims, { key: 'x' }),
  'a jku': sign({ ...header, jku: 'https://evil.example/jwks' }, claims),
  'an x5u': sign({ ...header, x5u: 'https://evil.example/cert' }, claims),
  'a crit': sign({ ...header, crit: ['exp'] }, claims),
  'an empty crit': sign({ ...header, crit: '' }, claims),
  'typ JWT': sign({ ...header, typ: 'JWT' }, claims),
  'no typ': sign({ alg: 'HS256', kid: header.kid }, claims),
  'another iss': sign(header, { ...claims, iss: 'https://evil.example' }),
  'another aud': sign(header, { ...claims, aud: 'other' }),
  'several aud': sign(header, { ...claims, aud: ['latchkey', 'other'] }),
  ...Object.fromEntries(
    ['iss', 'aud', 'sub', 'sid', 'jti', 'exp', 'iat'].map((name) => [`no ${name}`, sign(header, without(name))]),
  ),
  'a kid that is an array': sign({ ...header, kid: [header.kid] }, claims),
  'a kid of every object': sign({ ...header, kid: '__proto__' }, claims),
  'b64 false': sign({ ...header, b64: false }, claims),
  'a header that is an array': sign([header], claims),
  'iss as an array': sign(header, { ...claims, iss: [claims.iss] }),
  'jti as a number': sign(header, { ...claims, jti: 1 }),
  'an empty jti': sign(header, { ...claims, jti: '' }),
  'iat as text': sign(header, { ...claims, iat: String(hour - 3600) }),
  'exp before 1970': sign(header, { ...claims, exp: -1 }),
  'exp null': sign(header, { ...claims, exp: null }),
  'exp in 70,000 years': sign(header, { ...claims, exp: 2 ** 41 }),
  'exp in the past': sign(header, { ...claims, exp: 1 }),
  'exp as text': sign(header, { ...claims, exp: String(hour) }),
  'exp beyond all bounds': sign(header, `{"exp":1e400,${JSON.stringify(without('exp')).slice(1)}`),
  'exp as a fraction': sign(header, { ...claims, exp: hour + 0.5 }),
  'nbf in the future': sign(header, { ...claims, nbf: hour }),
  'sub as a number': sign(header, { ...claims, sub: 1 }),
  'sub as an array': sign(header, { ...claims, sub: ['1'] }),
  'sub -1': sign(header, { ...claims, sub: '-1' }),
  'sub with a zero in front': sign(header, { ...claims, sub: `0${claims.sub}` }),
  'sub in other digits': sign(header, { ...claims, sub: '١' }),
  'sub with a line break': sign(header, { ...claims, sub: `${claims.sub}\n` }),
  'sub 0': sign(header, { ...claims, sub: '0' }),
  'sub beyond an integer': sign(header, { ...claims, sub: '9999999999' }),
  'sub of nobody': sign(header, { ...claims, sub: '2000000000' }),
  'a sid that is none': sign(header, { ...claims, sid: "' or 1=1" }),
  'a sid in capitals': sign(header, { ...claims, sid: String(claims['sid']).toUpperCase() }),
  'a byte order mark': sign(header, `\uFEFF${JSON.stringify(claims)}`),
  'a payload that is null': sign(header, 'null'),
  'a payload that is an array': sign(header, [claims]),
  'a payload that is text': sign(header, '"x"'),
  'a payload that is not JSON': sign(header, '{'),
  'two parts': good.split('.').slice(0, 2).join('.'),
  'four parts': `${good}.x`,
  'no signature': `${good.split('.').slice(0, 2).join('.')}.`,
  'an empty payload': `${encode(header)}..${good.split('.')[2]}`,
  'padding after the signature': `${good}=`,
  // RFC 4648 §3.5: the last character holds two bits that are not used.
  'another spelling of its signature': good.slice(0, -1) + next(good.at(-1)),
  'the five parts of a JWE': `${good}.x.y`,
  'nothing but dots': '..',
  '100 KB of nothing': 'a'.repeat(100_000),
}

describe('a forged access token', () => {
  test.each(Object.entries(forgeries))('with %s is a 401 invalid_token', async (_name, token) => {
    const reply = await me(`Bearer ${token}`)
    expect([reply.statusCode, reply.json<{ error?: string }>().error]).toEqual([401, 'invalid_token'])
    expect(reply.headers['www-authenticate']).toMatch(
      /^Bearer realm="latchkey", error="invalid_token", error_description="[^"]+"$/,
    )
  })

  test('is told from a good one', async () => {
    expect((await me(`Bearer ${good}`)).statusCode).toBe(200)
    expect((await me(`Bearer ${sign(header, claims)}`)).statusCode).toBe(200)
  })
})

describe('RFC 6750 §3', () => {
  test('without a token the challenge has a parameter and names no error', async () => {
    const reply = await me()
    expect([reply.statusCode, reply.headers['www-authenticate']]).toEqual([401, 'Bearer realm="latchkey"'])
    expect((await me('Basic Og==')).headers['www-authenticate']).toBe('Bearer realm="latchkey"')
  })

  test.each(['Bearer', 'Bearer ', 'Bearer a b', 'Bearer ä', 'Bearer "x"'])(
    'a malformed header (%j) is a 400',
    async (value) => {
      const reply = await me(value)
      expect([reply.statusCode, reply.json<{ error?: string }>().error]).toEqual([400, 'invalid_request'])
    },
  )

  test('§2.1: the scheme is read without regard to case', async () => {
    expect((await me(`bearer ${good}`)).statusCode).toBe(200)
  })

  test('§2.3: a token in the query or the body is none', async () => {
    expect((await get(app, `/api/v1/me?access_token=${good}`)).statusCode).toBe(401)
  })
})

describe('RFC 9068 §2, judged by jose', () => {
  test('the token has the type, the algorithm and every claim', async () => {
    const { payload, protectedHeader } = await jwtVerify(good, Buffer.from(secretKey), {
      algorithms: ['HS256'],
      typ: 'at+jwt',
      issuer: 'http://localhost:8000',
      audience: 'latchkey',
      requiredClaims: ['sub', 'sid', 'jti', 'iat', 'exp', 'roles'],
    })
    expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBe(1800)
    expect(Object.keys(protectedHeader).toSorted()).toEqual(['alg', 'kid', 'typ'])
    expect(JSON.stringify(payload)).not.toContain('@')
  })
})

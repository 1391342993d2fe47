import { describe, expect, test } from 'vitest'
import { rotateRefreshToken, rotateRefreshTokens } from '#src/features/sessions/rotation.sql.ts'
import { refreshWith, signedUp, type TokenReply } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const { app, sql } = await startService({ DATABASE_POOL_SIZE: '10' })
const tokens: string[] = []
for (let n = 0; n < 20; n++) tokens.push((await signedUp(app)).tokens.refresh_token)
const sessionIdOf = (token: string) => Buffer.from(token.slice(4, 26), 'base64url').toString('hex')

/** Refreshes these at once, keeps what came of it, and tells the statuses. */
const refreshAll = (places: readonly number[]) =>
  Promise.all(
    places.map(async (place) => {
      const reply = await refreshWith(app, tokens[place] ?? '')
      if (reply.statusCode === 200) tokens[place] = reply.json<TokenReply>().refresh_token
      return reply.statusCode
    }),
  )
const all = tokens.map((_, place) => place)
const twoHundred = (count: number) => Array<number>(count).fill(200)

describe('first uses at once', () => {
  test('share statements, and each gets a successor of its own', async () => {
    const sent = watchStatements()
    expect(await refreshAll(all)).toEqual(twoHundred(20))
    expect(sent().alone).toBeLessThanOrEqual(8)
    expect(sent().together).toBeGreaterThanOrEqual(1)
    expect(new Set(tokens).size).toBe(20)
    const heads = await sql`select distinct generation from sessions`
    expect(heads).toEqual([{ generation: 1 }])
  })

  test('do not wait for a session that somebody else has locked', async () => {
    const locked = 12
    const sent = watchStatements()
    const release = await lock([locked])
    const slow = refreshAll([0, 1, 2, 3, locked])
    const others = all.filter((place) => place > 3 && place !== locked)
    expect(await refreshAll(others)).toEqual(twoHundred(others.length))
    // None of a shared statement had to go alone but the one.
    expect(sent().alone).toBeLessThanOrEqual(8)
    await release()
    expect(await slow).toEqual(twoHundred(5))
  })

  test('do not wait long for statements that do', async () => {
    const release = await lock([0, 1, 2, 3])
    const slow = refreshAll([0, 1, 2, 3])
    expect(await refreshAll(all.slice(4))).toEqual(twoHundred(16))
    await release()
    expect(await slow).toEqual(twoHundred(4))
  })

  test('are not asked once more one by one when the database is too slow for all', async () => {
    const sent = watchStatements()
    const locked = Promise.withResolvers<void>()
    const released = Promise.withResolvers<void>()
    const transaction = sql.begin(async (sql) => {
      await sql`lock table refresh_tokens in access exclusive mode`
      locked.resolve()
      await released.promise
    })
    await locked.promise
    expect(await refreshAll(all)).toEqual(Array<number>(20).fill(503))
    released.resolve()
    await transaction
    // Each statement is sent once; the first four go alone.
    expect(sent().alone).toBeLessThanOrEqual(8)
    expect(await refreshAll(all)).toEqual(twoHundred(20))
  })

  test('grant nothing that one alone would not', async () => {
    const session = (place: number) => sessionIdOf(tokens[place] ?? '')
    await sql`update refresh_tokens set expires_at = now() - interval '1 second' where session_id = ${session(5)}::uuid`
    await sql`update sessions set revoked_at = now() where id = ${session(6)}::uuid`
    await sql`update sessions set expires_at = now() - interval '1 second' where id = ${session(7)}::uuid`
    await sql`update users set is_active = false where id = (select user_id from sessions where id = ${session(8)}::uuid)`
    await sql`update sessions set epoch = -1 where id = ${session(9)}::uuid`
    const generations = () => sql`select id, generation from sessions order by id`
    const guess = (tokens[10] ?? '').replace(/[^.]+$/, 'A'.repeat(43))
    const before = new Map((await generations()).map(({ id, generation }) => [id as string, generation as number]))

    const good = refreshAll([0, 1, 2, 3, 4, 11, 12])
    const bad = await Promise.all([...tokens.slice(5, 10), guess].map((token) => refreshWith(app, token)))
    expect(bad.map((reply) => reply.json<{ code: string }>().code)).toEqual([
      'refresh_token_expired',
      'refresh_token_revoked',
      'refresh_token_expired',
      'refresh_token_user_disabled',
      'refresh_token_revoked',
      'refresh_token_invalid',
    ])
    expect(await good).toEqual(twoHundred(7))
    const moved = (await generations()).filter(({ id, generation }) => generation !== before.get(id as string))
    expect(moved).toHaveLength(7)
  })

  test('give a token that does not outlive its session', async () => {
    await sql`update sessions set expires_at = now() + interval '1 minute' where expires_at > now()`
    const [since] = await sql`select clock_timestamp()::text as text`
    const places = [0, 1, 2, 3, 4, 11, 12, 13, 14]
    expect(await refreshAll(places)).toEqual(twoHundred(places.length))
    const [late] = await sql`
      select count(*)::integer as count from refresh_tokens t join sessions s on s.id = t.session_id
      where t.issued_at > ${String(since?.['text'])}::text::timestamptz and t.expires_at > s.expires_at`
    expect(late).toEqual({ count: 0 })
  })

  test('do not fail because another one does', async () => {
    const broken = sessionIdOf(tokens[15] ?? '')
    await sql`insert into refresh_tokens (session_id, generation, digest, issued_at, expires_at)
      select id, generation + 1, '\\x00', now(), now() from sessions where id = ${broken}::uuid`
    const statuses = await refreshAll([0, 1, 2, 3, 15, 16, 17, 18, 19])
    expect(statuses).toEqual([200, 200, 200, 200, 500, 200, 200, 200, 200])
  })
})

/** Counts the statements of first uses from now until it is asked. */
function watchStatements(): () => { alone: number; together: number } {
  const sent: string[] = []
  const { db } = app.core
  const rows = db.rows.bind(db)
  Reflect.set(db, 'rows', (query: { text: string }, input: never) => {
    sent.push(query.text)
    return rows(query as never, input)
  })
  const count = ({ text }: { text: string }) => sent.filter((other) => other === text).length
  return () => {
    Reflect.deleteProperty(db, 'rows')
    return { alone: count(rotateRefreshToken), together: count(rotateRefreshTokens) }
  }
}

/** Locks the sessions of these; the function it resolves to lets them go. */
async function lock(places: readonly number[]): Promise<() => Promise<void>> {
  const ids = places.map((place) => sessionIdOf(tokens[place] ?? ''))
  const locked = Promise.withResolvers<void>()
  const released = Promise.withResolvers<void>()
  const transaction = sql.begin(async (sql) => {
    for (const id of ids) await sql`select from sessions where id = ${id}::uuid for update`
    locked.resolve()
    await released.promise
  })
  await locked.promise
  return async () => {
    released.resolve()
    await transaction
  }
}

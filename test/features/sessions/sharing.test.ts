import { sql } from 'drizzle-orm'
import { beforeAll, describe, expect, test } from 'vitest'
import { sessions } from '#src/db/schema.ts'
import { type NoInput, type Statement, statement } from '#src/db/statement.ts'
import { rotateRefreshTokens } from '#src/features/sessions/rotation.sql.ts'
import { sessionStates } from '#src/features/sessions/sessions.sql.ts'
import { type Actor, refreshWith, signedUp, type TokenReply } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const { app } = await startService({ DATABASE_POOL_SIZE: '10' })
const actors: Actor[] = []
for (let n = 0; n < 12; n++) actors.push(await signedUp(app))
const tokens = actors.map((actor) => actor.tokens.refresh_token)
const shared = new Set<unknown>([rotateRefreshTokens, sessionStates])
/** PostgreSQL answers it as an engine that spreads its rows answers a shared statement: with 0A000. */
const unsupported = statement<NoInput, { id: string }>(
  () => sql`select id from ${sessions} group by id for update`,
  { id: 'uuid' },
  { repeatable: true },
)

describe('where the database refuses statements that several requests share', () => {
  const refused: unknown[] = []
  beforeAll(() => {
    const { db } = app.core
    const rows = db.rows.bind(db) as (query: Statement<object, unknown>, input: object) => Promise<unknown[]>
    Reflect.set(db, 'rows', (query: Statement<object, unknown>, input: object) => {
      if (!shared.has(query)) return rows(query, input)
      refused.push(query)
      return rows(unsupported, {})
    })
  })

  test('each request that is authenticated asks for itself, and from the second time on nothing else', async () => {
    for (const asked of [[sessionStates], []]) {
      const replies = await Promise.all(actors.map((actor) => actor.me()))
      expect(replies.map((reply) => reply.json<{ email: string }>().email)).toEqual(actors.map(({ email }) => email))
      expect([...new Set(refused.splice(0))]).toEqual(asked)
    }
  })

  test('each first use goes alone, from the second time on at once, and the same token at once still has one successor', async () => {
    for (const asked of [[rotateRefreshTokens], []]) {
      const replies = await Promise.all(tokens.flatMap((token) => [refreshWith(app, token), refreshWith(app, token)]))
      expect(replies.map(({ statusCode }) => statusCode)).toEqual(Array<number>(24).fill(200))
      const got = replies.map((reply) => reply.json<TokenReply>().refresh_token)
      tokens.splice(0, 12, ...got.filter((_, n) => n % 2 === 0))
      expect(got.filter((_, n) => n % 2 === 1)).toEqual(tokens)
      expect([...new Set(refused.splice(0))]).toEqual(asked)
    }
  })
})

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Actor, signedUp, type TokenReply } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const { app, sql } = await startService()

type Step =
  | { act: 'refresh'; token: number }
  | { act: 'both'; token: number }
  | { act: 'late'; seconds: number }
  | { act: 'logout' }

/** What a client and a thief may do with the tokens that were ever seen, in any order. */
const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ act: fc.constant('refresh' as const), token: fc.nat(5) }) },
    { weight: 3, arbitrary: fc.record({ act: fc.constant('both' as const), token: fc.nat(5) }) },
    { weight: 2, arbitrary: fc.record({ act: fc.constant('late' as const), seconds: fc.constantFrom(1, 5, 11, 60) }) },
    { weight: 1, arbitrary: fc.record({ act: fc.constant('logout' as const) }) },
  ),
  { minLength: 3, maxLength: 14 },
)

describe('8. any interleaving of refresh, retry, logout and reuse', () => {
  test('leaves at most one unspent token per session, and a revoked session never answers 200 again', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (sequence: Step[]) => {
        const actor = await signedUp(app)
        const seen = [actor.tokens.refresh_token]
        let revoked = false
        for (const step of sequence) {
          const replies = await perform(actor, step, seen)
          if (revoked) for (const { statusCode } of replies) expect(statusCode).not.toBe(200)
          for (const reply of replies) if (reply.statusCode === 200) seen.push(reply.json<TokenReply>().refresh_token)
          // One token per generation, whoever asked and however often.
          expect(new Set(seen).size).toBe(new Set(seen.map(generationOf)).size)
          revoked = await requireInvariants(actor.userId, Math.max(...seen.map(generationOf)))
        }
      }),
      { numRuns: 60 },
    )
  })
})

async function perform(actor: Actor, step: Step, seen: string[]) {
  const token = 'token' in step ? seen.at(-1 - (step.token % seen.length)) : undefined
  switch (step.act) {
    case 'refresh':
      return [await actor.refresh(token)]
    case 'both':
      return Promise.all([actor.refresh(token), actor.refresh(token), actor.refresh(seen.at(-1))])
    case 'late':
      await sql`
        update refresh_tokens t set issued_at = issued_at - make_interval(secs => ${step.seconds})
        from sessions s where s.id = t.session_id and s.user_id = ${actor.userId}`
      return []
    case 'logout':
      await actor.logOut('local')
      return []
  }
}

const generationOf = (token: string) => Number(token.split('.')[1])

/** Reads the rows of the session; resolves to whether it is revoked. */
async function requireInvariants(userId: number, lastSeen: number): Promise<boolean> {
  const [row] = await sql<{ generation: number; last: number; unspent: number; revoked: boolean }[]>`
    select s.generation, max(t.generation)::integer as last, s.revoked_at is not null as revoked,
      (count(*) filter (where t.generation >= s.generation))::integer as unspent
    from sessions s join refresh_tokens t on t.session_id = s.id where s.user_id = ${userId} group by s.id`
  expect(row?.unspent).toBe(1)
  expect(row?.last).toBe(row?.generation)
  expect(row?.generation).toBe(lastSeen)
  return row?.revoked ?? false
}

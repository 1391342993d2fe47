import { readFile } from 'node:fs/promises'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Actor, signedUp, type TokenReply } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const graceSeconds = 10
const services = {
  0: await startService({ REFRESH_LATE_RETRIES: '0' }),
  1: await startService(),
  3: await startService({ REFRESH_LATE_RETRIES: '3' }),
}

type Step = { act: 'present'; back: number } | { act: 'pass'; seconds: number } | { act: 'logout' }

/** What a client and a thief may do with the tokens that were ever seen, in any order; the newest are the likeliest. */
const steps = fc.array(
  fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({ act: fc.constant('present' as const), back: fc.constantFrom(0, 0, 0, 1, 1, 1, 2, 3) }),
    },
    {
      weight: 4,
      arbitrary: fc.record({ act: fc.constant('pass' as const), seconds: fc.constantFrom(2, 11, 7200) }),
    },
    { weight: 1, arbitrary: fc.record({ act: fc.constant('logout' as const) }) },
  ),
  { minLength: 3, maxLength: 24 },
)

/** The specification as a model: one session, its head, what was granted late, and the age of each generation in seconds. */
interface Model {
  head: number
  lateGeneration: number | null
  lateCount: number
  isRevoked: boolean
  readonly ages: number[]
}

/** What presenting a generation has to answer, and what it does to the model. */
function present(model: Model, generation: number, lateRetries: number): string {
  const { head, ages } = model
  if (model.isRevoked) return 'refresh_token_revoked'
  if (generation === head) {
    model.head++
    ages[model.head] = 0
    return `token ${head + 1}`
  }
  const withinGrace = (ages[generation + 1] ?? 0) < graceSeconds
  if (withinGrace) return generation + 1 === head ? `token ${head}` : 'refresh_token_superseded'
  const inARow = model.lateGeneration === generation ? model.lateCount : 0
  if (generation + 1 !== head || inARow >= lateRetries) {
    model.isRevoked = true
    return 'refresh_token_reused'
  }
  if (model.lateGeneration !== head) {
    model.lateCount = inARow + 1
    model.lateGeneration = head
  }
  return `token ${head}`
}

describe.each([0, 1, 3] as const)(
  '8. any interleaving of a client and a thief, with %i late retries in a row',
  (lateRetries) => {
    test('goes step by step as the model says: outcome, head, late generation and count', async () => {
      const { app, sql } = services[lateRetries]
      await fc.assert(
        fc.asyncProperty(steps, async (sequence: Step[]) => {
          const actor = await signedUp(app)
          const model: Model = { head: 0, lateGeneration: null, lateCount: 0, isRevoked: false, ages: [0] }
          const tokens = [actor.tokens.refresh_token]
          for (const step of sequence) {
            if (step.act === 'present') await presentToken(actor, model, tokens, step.back, lateRetries)
            else if (step.act === 'pass') await pass(actor, model, step.seconds)
            else {
              await actor.logOut('local')
              model.isRevoked = true
            }
            expect(await sessionOf(actor)).toEqual({
              head: model.head,
              lateGeneration: model.lateGeneration,
              lateCount: model.lateCount,
              isRevoked: model.isRevoked,
              unspent: 1,
            })
          }
        }),
        { numRuns: 50 },
      )

      async function pass({ userId }: Actor, model: Model, seconds: number) {
        model.ages.forEach((age, i) => (model.ages[i] = age + seconds))
        await sql`
        update refresh_tokens t set issued_at = issued_at - make_interval(secs => ${seconds})
        from sessions s where s.id = t.session_id and s.user_id = ${userId}`
      }

      async function sessionOf({ userId }: Actor) {
        const [row] = await sql`
        select s.generation as head, s.late_generation as "lateGeneration", s.late_count as "lateCount",
          s.revoked_at is not null as "isRevoked",
          (count(*) filter (where t.generation >= s.generation))::integer as unspent
        from sessions s join refresh_tokens t on t.session_id = s.id where s.user_id = ${userId} group by s.id`
        return row
      }
    })
  },
)

async function presentToken(actor: Actor, model: Model, tokens: string[], back: number, lateRetries: number) {
  const generation = Math.max(0, tokens.length - 1 - back)
  const expected = present(model, generation, lateRetries)
  const reply = await actor.refresh(tokens[generation])
  const body = reply.json<TokenReply & { code: string }>()
  const [, named] = body.refresh_token?.split('.') ?? []
  expect(reply.statusCode === 200 ? `token ${named}` : body.code).toBe(expected)
  if (reply.statusCode !== 200) return
  // One token for each generation, whoever asked and however often.
  expect(body.refresh_token).toBe(tokens[Number(named)] ?? body.refresh_token)
  tokens[Number(named)] = body.refresh_token
}

type Fate = readonly boolean[]
/** Answered; lost and repeated at once, late, late twice: whether each repetition is a late one. */
const fates: readonly Fate[] = [[], [false], [true], [true, true]]
const lateAges = (model: Model, isLate: boolean) => model.ages.fill(isLate ? 7200 : 0)
const fresh = (): Model => ({ head: 0, lateGeneration: null, lateCount: 0, isRevoked: false, ages: [0] })

/** How many of the sequences of six refreshes whose late losses are in a row, or never, leave an honest client logged in. */
function honest(lateRetries: number, inARow: boolean): string {
  let [stays, all] = [0, 0]
  const walk = (sequence: readonly Fate[]) => {
    if (sequence.length < 6) return fates.forEach((fate) => walk([...sequence, fate]))
    const late = sequence.map((fate) => fate.includes(true))
    if (!late.includes(true) || late.some((is, i) => is && late[i + 1]) !== inARow) return
    const model = fresh()
    for (const [held, fate] of sequence.entries())
      for (const isLate of [true, ...fate]) {
        lateAges(model, isLate)
        present(model, held, lateRetries)
      }
    all++
    if (!model.isRevoked) stays++
  }
  walk([])
  return `${stays} of ${all}`
}

/** How often a client and a thief with the same token can take turns, never within the window, before the session ends. */
function turns(lateRetries: number): number {
  let most = 0
  const walk = (model: Model, held: Record<'client' | 'thief', number>, last: string, count: number) => {
    most = Math.max(most, count)
    if (count > 7) return
    for (const who of ['client', 'thief'] as const) {
      const next = structuredClone(model)
      lateAges(next, true)
      const [, generation] = present(next, held[who], lateRetries).split(' ')
      if (generation === undefined || (who === last && held[who] === Number(generation))) continue
      if (next.head > 12) continue
      walk(next, { ...held, [who]: Number(generation) }, who, count + (last !== '' && who !== last ? 1 : 0))
    }
  }
  walk(fresh(), { client: 0, thief: 0 }, '', 0)
  return most
}

describe('the figures of the documentation', () => {
  test.each([0, 1, 3])('are those of the model with %i late retries in a row', async (lateRetries) => {
    const shown = (text: string) => text.replaceAll(/\d{4}/g, (digits) => `${digits[0]},${digits.slice(1)}`)
    const row = [honest(lateRetries, false), honest(lateRetries, true)].map(shown)
    const document = (await readFile('docs/rotation.md', 'utf8')).replaceAll('*', '')
    expect(document).toContain(`| ${lateRetries} | ${row.join(' | ')} | ${turns(lateRetries)} |`)
  })
})

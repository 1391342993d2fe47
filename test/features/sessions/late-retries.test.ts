import { describe, expect, test } from 'vitest'
import { sweep } from '#src/features/sessions/sweep.ts'
import { type Actor, metric, refreshWith, signedUp, type TokenReply } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const service = await startService()
const { app, sql } = service

const codeOf = (reply: { json: () => unknown }) => (reply.json() as { code?: string }).code ?? 'granted'
const tokenOf = (reply: { json: () => unknown }) => (reply.json() as TokenReply).refresh_token
/** Hours go by: no successor is within the window any more. */
const hoursPass = (userId: number, on = sql) => on`
  update refresh_tokens t set issued_at = t.issued_at - interval '3 hours'
  from sessions s where s.id = t.session_id and s.user_id = ${userId}`
const sessionOf = async (userId: number) =>
  (
    await sql`select generation, late_generation, late_count, revoked_at is null as lives from sessions where user_id = ${userId}`
  )[0]

/** Presents a token, loses the answer, and repeats it hours later; resolves to the answer to the repetition. */
async function loseAnswer({ refresh, userId }: Actor, token: string, on = sql) {
  await refresh(token)
  await hoursPass(userId, on)
  return refresh(token)
}

describe('a retry that comes hours late', () => {
  test('gets the same successor, again and again while that was not presented, and writes it down once', async () => {
    const actor = await signedUp(app)
    const lost = tokenOf(await actor.refresh())
    const before = await metric(app, 'auth_refresh_total{outcome="late"}')
    for (let i = 0; i < 3; i++) {
      await hoursPass(actor.userId)
      expect(tokenOf(await actor.refresh())).toBe(lost)
    }
    expect(await metric(app, 'auth_refresh_total{outcome="late"}')).toBe(before + 3)
    expect(await sessionOf(actor.userId)).toEqual({ generation: 1, late_generation: 1, late_count: 1, lives: true })
    const events = await sql`
      select actor_id from audit_events where user_id = ${actor.userId} and type = 'refresh_token.late_retry'`
    expect(events).toEqual([{ actor_id: null }])
  })

  test('is written down once when five come at once', async () => {
    const actor = await signedUp(app)
    await actor.refresh()
    await hoursPass(actor.userId)
    const answers = await Promise.all(Array.from({ length: 5 }, () => actor.refresh()))
    expect(new Set(answers.map(tokenOf)).size).toBe(1)
    const events = await sql`
      select from audit_events where user_id = ${actor.userId} and type = 'refresh_token.late_retry'`
    expect(events).toHaveLength(1)
  })

  test('gets an access token that works', async () => {
    const actor = await signedUp(app)
    const late = (await loseAnswer(actor, actor.tokens.refresh_token)).json<TokenReply>()
    expect((await actor.me(late.access_token)).statusCode).toBe(200)
  })

  test('in the next generation too is a reuse: two in a row are what a thief in lockstep makes', async () => {
    const actor = await signedUp(app)
    const second = tokenOf(await loseAnswer(actor, actor.tokens.refresh_token))
    expect(codeOf(await loseAnswer(actor, second))).toBe('refresh_token_reused')
    expect(await sessionOf(actor.userId)).toMatchObject({ lives: false })
  })

  test('is possible again one generation later', async () => {
    const actor = await signedUp(app)
    const second = tokenOf(await loseAnswer(actor, actor.tokens.refresh_token))
    const third = tokenOf(await actor.refresh(second))
    expect(codeOf(await loseAnswer(actor, third))).toBe('granted')
    expect(await sessionOf(actor.userId)).toEqual({ generation: 3, late_generation: 3, late_count: 1, lives: true })
  })

  test('is refused once the successor was presented', async () => {
    const actor = await signedUp(app)
    await actor.refresh(tokenOf(await actor.refresh()))
    await hoursPass(actor.userId)
    expect(codeOf(await actor.refresh())).toBe('refresh_token_reused')
  })

  test('after the key has changed is superseded, and nothing is written', async () => {
    const actor = await signedUp(app)
    await actor.refresh()
    await hoursPass(actor.userId)
    const other = await startService({ SECRET_KEY: 'another-key-for-tests-0123456789-zyxwvuts' }, service)
    expect(codeOf(await refreshWith(other.app, actor.tokens.refresh_token))).toBe('refresh_token_superseded')
    expect(await sessionOf(actor.userId)).toMatchObject({ late_generation: null, lives: true })
  })

  test('logs out as well, and is not counted for that', async () => {
    const actor = await signedUp(app)
    await actor.refresh()
    await hoursPass(actor.userId)
    const reply = await app.inject({
      method: 'POST',
      url: '/api/v1/logout',
      payload: { refresh_token: actor.tokens.refresh_token },
    })
    expect(reply.statusCode).toBe(204)
    expect((await actor.me()).statusCode).toBe(401)
  })

  test('is kept possible by the sweep, which leaves the parent of a head until it has expired', async () => {
    const months = await startService({ REFRESH_TOKEN_EXPIRE_DAYS: '60', SESSION_EXPIRE_DAYS: '90' })
    const actor = await signedUp(months.app)
    const next = tokenOf(await actor.refresh())
    await months.sql`update refresh_tokens set issued_at = issued_at - interval '20 days'`
    await sweep(months.app.core, { days: 7, auditDays: 365 })
    expect(tokenOf(await actor.refresh())).toBe(next)
  })
})

describe('REFRESH_LATE_RETRIES', () => {
  test('of 3 grants three generations in a row, and the fourth is a reuse', async () => {
    const patient = await startService({ REFRESH_LATE_RETRIES: '3' })
    const actor = await signedUp(patient.app)
    let token = actor.tokens.refresh_token
    const answers: string[] = []
    for (let i = 0; i < 4; i++) {
      const reply = await loseAnswer(actor, token, patient.sql)
      answers.push(codeOf(reply))
      token = tokenOf(reply)
    }
    expect(answers).toEqual(['granted', 'granted', 'granted', 'refresh_token_reused'])
  })

  test('of 0 makes every late retry a reuse', async () => {
    const strict = await startService({ REFRESH_LATE_RETRIES: '0' })
    const actor = await signedUp(strict.app)
    expect(codeOf(await loseAnswer(actor, actor.tokens.refresh_token, strict.sql))).toBe('refresh_token_reused')
  })
})

describe('a thief who refreshes in turn with the owner', () => {
  test('is found at the second refresh, whoever of the two comes first', async () => {
    // The rule does not know who is who: of two presentations hours apart the second is granted once, not twice in a row.
    const actor = await signedUp(app)
    const stolen = actor.tokens.refresh_token
    const first = tokenOf(await actor.refresh(stolen))
    await hoursPass(actor.userId)
    expect(tokenOf(await actor.refresh(stolen))).toBe(first)
    await hoursPass(actor.userId)
    await actor.refresh(first)
    await hoursPass(actor.userId)
    expect(codeOf(await actor.refresh(first))).toBe('refresh_token_reused')
    expect(await sessionOf(actor.userId)).toMatchObject({ lives: false })
  })
})

describe('two late retries that race with a rotation of the successor', () => {
  test('are granted nothing that the order of commits does not allow', async () => {
    for (let round = 0; round < 25; round++) {
      const actor = await signedUp(app)
      const successor = tokenOf(await actor.refresh())
      await hoursPass(actor.userId)
      const token = actor.tokens.refresh_token
      const [late, rotated, again] = await Promise.all([
        actor.refresh(token),
        actor.refresh(successor),
        actor.refresh(token),
      ])
      // Before the rotation the successor is granted; after it the token is two generations behind, and that is a reuse.
      for (const reply of [late, again]) {
        if (reply.statusCode === 200) expect(tokenOf(reply)).toBe(successor)
        else expect(codeOf(reply)).toBeOneOf(['refresh_token_reused', 'refresh_token_revoked'])
      }
      const session = await sessionOf(actor.userId)
      const reused = [late, again].some((reply) => codeOf(reply) === 'refresh_token_reused')
      expect(session?.['lives']).toBe(!reused)
      const granted = [late, again].some((reply) => reply.statusCode === 200)
      expect(session?.['late_generation']).toBe(granted ? 1 : null)
      expect(rotated.statusCode).toBeOneOf([200, 401])
    }
  })
})

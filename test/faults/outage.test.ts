import { setTimeout } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { metric, signedUp, type TokenReply } from '#test/support/actors.ts'
import { proxyTo } from '#test/support/proxy.ts'
import { cloneDatabase, startService } from '#test/support/service.ts'

const clients = 40
/** Longer than the window, as an outage is. */
const outageSeconds = Number(process.env['OUTAGE_SECONDS'] ?? 3)
const window = Math.min(10, outageSeconds - 1)

describe('three outages of the database, each longer than the window, under 40 clients that refresh all the time', () => {
  test('end no session of a client that repeats its token, and answer it with 503 and nothing else', async () => {
    const database = await cloneDatabase()
    const proxy = await proxyTo(database)
    const settings = { REFRESH_GRACE_SECONDS: String(window), DATABASE_POOL_SIZE: '8' }
    const { app } = await startService(settings, { url: proxy.url, sql: database.sql })
    const held = await Promise.all(
      Array.from({ length: clients }, async () => (await signedUp(app)).tokens.refresh_token),
    )
    const answers = new Set<string>()
    const rotations = held.map(() => 0)
    let isOver = false

    const client = async (i: number) => {
      for (;;) {
        if (isOver) return
        const reply = await app.inject({
          method: 'POST',
          url: '/api/v1/refresh',
          payload: { refresh_token: held[i] ?? '' },
        })
        const body = reply.json<TokenReply & { code?: string }>()
        answers.add(`${reply.statusCode} ${body.code ?? ''}`.trim())
        if (reply.statusCode !== 200) {
          await setTimeout(100)
          continue
        }
        held[i] = body.refresh_token
        rotations[i] = (rotations[i] ?? 0) + 1
      }
    }
    const running = held.map((_, i) => client(i))
    const allowed = ['200', '503 unavailable']
    const everybodyRefreshes = async () => {
      const before = [...rotations]
      // Who has been thrown out would be waited for without end.
      const isFine = () => [...answers].every((answer) => allowed.includes(answer))
      while (isFine() && rotations.some((count, i) => count < (before[i] ?? 0) + 2)) await setTimeout(20)
    }

    for (let outage = 0; outage < 3; outage++) {
      await everybodyRefreshes()
      proxy.hold(true)
      await setTimeout(outageSeconds * 1000)
      proxy.hold(false)
    }
    await everybodyRefreshes()
    isOver = true
    await Promise.all(running)

    expect([...answers].toSorted()).toEqual(allowed)
    expect(await metric(app, 'auth_refresh_total{outcome="reused"}')).toBe(0)
    const ended = await database.sql`select 1 from sessions where revoked_at is not null`
    expect(ended).toHaveLength(0)
  })
})

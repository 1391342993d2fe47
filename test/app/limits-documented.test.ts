import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { type Limit, makeLimits, uncounted } from '#src/features/limits.ts'
import * as routeLimits from '#src/routes/limits.ts'
import { get } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const { app } = await startService({ RATE_LIMITS: 'on' })

/** Each limit of the table as [how many, in how many seconds]. */
function documented(): Map<string, [number, number]> {
  const text = readFileSync(new URL('../../docs/security.md', import.meta.url), 'utf8')
  const row = /^\| `([a-z-]+)` \|.*\| ([\d,]+)(?:\\\*)? (?:an? (minute|hour)|in (\d+) minutes) \|$/gm
  return new Map(
    [...text.matchAll(row)].map(([, name = '', max = '', unit, minutes]) => [
      name,
      [Number(max.replace(',', '')), unit === 'hour' ? 3600 : 60 * Number(minutes ?? 1)],
    ]),
  )
}

describe('docs/security.md', () => {
  test('says of each limit how many it allows, and in what time', async () => {
    const limits: Limit[] = []
    makeLimits((limit) => {
      limits.push(limit)
      return uncounted()
    })
    const limit = (each: Limit) => {
      limits.push(each)
      return async () => {}
    }
    for (const make of Object.values(routeLimits)) make({ limit, perMinute: app.perMinute })
    const real = limits.map(({ name, max, per }) => [name, [max, per]] as const)

    // Those on every request, which a refusal tells.
    const replies = await Promise.all(Array.from({ length: app.perMinute.requests + 1 }, () => get(app, '/nowhere')))
    const refused = replies.find(({ statusCode }) => statusCode === 429)
    const policy = /^"requests";q=(\d+);w=(\d+)$/.exec(String(refused?.headers['ratelimit-policy']))
    const requests = ['requests', [Number(policy?.[1]), Number(policy?.[2])]] as const
    const checks = ['checks', [app.perMinute.checks, 60]] as const
    expect(Object.fromEntries(documented())).toEqual(Object.fromEntries([...real, requests, checks]))
  })
})

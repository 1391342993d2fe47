import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { cloneDatabase } from '#test/support/service.ts'
import { type Crowd, gatherCrowd } from './crowd.ts'
import { type Instance, makeNextVersion, startInstance } from './instances.ts'
import { haproxy, lacksProxy, nginx, startProxy } from './proxies.ts'

const rounds = Number(process.env['ROLLING_ROUNDS'] ?? 1)
const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
/** Changes the rows that the statements of the old version read, and looks at every row. */
const migration = `alter table "users" add column "next" text;
--> statement-breakpoint
alter table "sessions" add column "next" integer not null default 0;
--> statement-breakpoint
create table "next" ("session_id" uuid primary key references "sessions" ("id") on delete cascade);
`

const proxies = [
  // It looks at no /ready, and goes by connections that are refused.
  { proxy: nginx, drainSeconds: '1' },
  { proxy: haproxy, drainSeconds: '2' },
]

describe.each(proxies)('two instances behind $proxy.name under load', ({ proxy, drainSeconds }) => {
  // A machine that stands still for as long as a statement may wait for the lock of a migration makes a 503 of it.
  const options = { timeout: 400_000, retry: process.env['CI'] ? 2 : 0 }
  const name = 'are restarted in turn, and replaced by a version with one more migration, and no request fails'
  test(name, options, async ({ skip }) => {
    const lack = lacksProxy(proxy)
    if (lack !== undefined) return skip(lack)
    const { url, sql } = await cloneDatabase()
    const settings = { RATE_LIMITS: 'off', DRAIN_SECONDS: drainSeconds }
    const instances = [await startInstance(url, settings), await startInstance(url, settings)] as const
    const port = await startProxy(
      proxy,
      instances.map(({ at }) => at),
    )
    const crowd = await gatherCrowd(port, { size: 12, restMs: 0 })
    await crowd.everybodyGoesOn()
    for (let round = 0; round < rounds; round++) for (const instance of instances) await instance.replace()
    expectNoFailure(crowd)

    const next = await makeNextVersion('99.0.0', migration)
    const [first, second] = instances
    expect(await versionOf(first, version)).toBe(1)
    await first.replace(next)
    expect([await versionOf(first, '99.0.0'), await versionOf(second, version)]).toEqual([1, 1])
    expect(await sql`select from "next"`).toEqual([])
    // The old version goes on on the new schema.
    const served = () => second.metric('auth_refresh_total{outcome="rotated"}')
    const before = await served()
    await expect.poll(served, { timeout: 20_000 }).toBeGreaterThan(before + 20)
    await second.replace(next)
    expect(await versionOf(second, '99.0.0')).toBe(1)
    await crowd.everybodyGoesOn()
    await crowd.stop()
    expectNoFailure(crowd)
    console.log(`${proxy.name}: ${JSON.stringify(Object.fromEntries(crowd.answers))}`)
  })
})

function versionOf(instance: Instance, version: string): Promise<number> {
  return instance.metric(`latchkey_build_info{version="${version}",node="${process.versions.node}"}`)
}

function expectNoFailure({ answers, lost }: Crowd): void {
  const failed = [...answers].filter(([answer]) => !/ (200|201|204)$/.test(answer))
  expect({ failed, lost }).toEqual({ failed: [], lost: [] })
}

import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { metric, signedUp } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'
import type { Browser, Tab } from './browser.ts'
import type { browsers } from './browsers.ts'
import { attempt, signIn, status, Tabs, token, type Transport } from './tabs.ts'
import type { Fault, Rule } from './wire.ts'

const refresh = '/api/v1/refresh'
/** A rule for the first so many requests of a path. */
function first(count: number, path: string, fault: Fault): Rule {
  let left = count
  return (asked) => (asked === path && left-- > 0 ? fault : undefined)
}
function always(path: string, fault: Fault): Rule {
  return (asked) => (asked === path ? fault : undefined)
}

const lost = { kind: 'lose' } as const
const away = (seconds?: number): Fault => ({
  kind: 'fail',
  status: 503,
  headers: seconds === undefined ? {} : { 'retry-after': String(seconds) },
})

async function goElsewhere(tab: Tab): Promise<void> {
  await tab.evaluate(() => location.assign('/elsewhere'))
  await tab.waitForFunction(() => location.pathname === '/elsewhere')
}

/** Declares every case for a browser, with both transports. */
export function tryCases([name, launch, reason]: (typeof browsers)[number]): void {
  describe(`in ${name}`, () => {
    let browser: Browser | undefined
    beforeAll(async () => {
      if (reason === undefined) browser = await launch()
    })
    afterAll(() => browser?.close())

    describe.skipIf(reason !== undefined).each<Transport>(['cookie', 'storage'])(
      'with the transport %s',
      (transport) => {
        const open = (prepare?: string) => Tabs.open(browser as Browser, transport, prepare)

        test.each([2, 8])('01 %i tabs whose tokens expire at once', async (count) => {
          const tabs = await open()
          const pages = await tabs.signedIn(count)
          const session = await tabs.session(pages)
          tabs.wire.requests.length = 0
          // Twice each, because more than one part of a page wants it.
          const twice = () => Promise.all([1, 2].map(() => client.getAccessToken({ minValidity: 61 })))
          await Promise.all(pages.map((page) => page.evaluate(twice)))
          expect(tabs.refreshes).toBeLessThanOrEqual(count + 2)
          expect(tabs.refreshes).toBeGreaterThan(0)
          expect(await tabs.session(pages)).toBe(session)
        })

        test('02 an answer that is lost is asked for again, at once', async () => {
          const tabs = await open()
          const pages = await tabs.signedIn(2)
          const before = await token(pages[0]!, 0)
          // A browser sends a request anew itself when an old connection was closed.
          tabs.wire.rule = first(2, refresh, lost)
          expect(await token(pages[0]!)).not.toBe(before)
          expect(await tabs.session(pages)).toBeDefined()
        })

        test('02 an answer that is lost is asked for again, an hour later', async () => {
          const tabs = await open()
          const pages = await tabs.signedIn(2)
          const before = await token(pages[0]!, 0)
          tabs.wire.rule = always(refresh, lost)
          // It is still good, so nobody need know.
          expect(await token(pages[0]!)).toBe(before)
          await tabs.age(3600)
          tabs.wire.rule = () => undefined
          expect(await token(pages[0]!)).not.toBe(before)
          expect(await tabs.session(pages)).toBeDefined()
        })

        test.each([5, 12])('03 an answer that is late by %i seconds', async (seconds) => {
          const tabs = await open()
          const pages = await tabs.signedIn(2)
          tabs.wire.rule = first(1, refresh, { kind: 'late', ms: seconds * 1000 })
          const before = await token(pages[0]!, 0)
          expect(await token(pages[0]!)).not.toBe(before)
          expect(tabs.refreshes).toBe(2)
          expect(await token(pages[1]!)).toBeDefined()
          await pause(seconds * 1000)
          await Promise.all(pages.map((page) => token(page)))
          expect(await tabs.session(pages)).toBeDefined()
        })

        test('04 a late answer after a newer one', async () => {
          const tabs = await open()
          const pages = await tabs.signedIn(2)
          const release = Promise.withResolvers<void>()
          tabs.wire.rule = first(1, refresh, { kind: 'held', until: release.promise })
          const late = token(pages[0]!)
          late.catch(() => {})
          await vi.waitUntil(() => tabs.refreshes === 1, 20_000)
          await token(pages[1]!)
          await token(pages[1]!)
          release.resolve()
          await late
          await Promise.all(pages.map((page) => token(page)))
          await tabs.age(3600)
          await token(pages[1]!)
          expect(await tabs.session(pages)).toBeDefined()
        })

        test('05 a tab that is frozen with a request under way, and thawed later', async ({ skip }) => {
          const freeze = browser?.freeze
          if (!freeze) return skip('this driver cannot freeze a tab')
          const tabs = await open()
          const pages = await tabs.signedIn(2)
          const release = Promise.withResolvers<void>()
          tabs.wire.rule = first(1, refresh, { kind: 'held', until: release.promise })
          const late = token(pages[0]!)
          late.catch(() => {})
          await vi.waitUntil(() => tabs.refreshes === 1, 20_000)
          await freeze(pages[0]!, true)
          for (let n = 0; n < 2; n++) await token(pages[1]!)
          release.resolve()
          await tabs.age(3600)
          await token(pages[1]!)
          await freeze(pages[0]!, false)
          expect(await late).toBeDefined()
          expect(await tabs.session(pages)).toBeDefined()
        })

        test('06 a sign-out in one tab while another renews', async () => {
          const tabs = await open()
          const pages = await tabs.signedIn(3)
          const release = Promise.withResolvers<void>()
          tabs.wire.rule = first(1, refresh, { kind: 'held', until: release.promise })
          const late = token(pages[0]!)
          late.catch(() => {})
          await vi.waitUntil(() => tabs.refreshes === 1, 20_000)
          await pages[1]!.evaluate(() => client.signOut())
          release.resolve()
          expect(await late).toBeUndefined()
          expect(await tabs.session(pages)).toBeUndefined()
          await Promise.all(
            pages.map((page) => page.waitForFunction(() => client.getSnapshot().status === 'signed_out')),
          )
        })

        test('07 a sign-in as somebody else in one tab', async () => {
          const tabs = await open()
          const pages = await tabs.signedIn(3)
          const before = await tabs.session(pages)
          const snapshot = await pages[0]!.evaluate(() => client.getSnapshot().session)
          const other = await signedUp(tabs.service.app)
          const release = Promise.withResolvers<void>()
          tabs.wire.rule = first(1, refresh, { kind: 'held', until: release.promise })
          const late = token(pages[0]!)
          late.catch(() => {})
          await vi.waitUntil(() => tabs.refreshes === 1, 20_000)
          await signIn(pages[1]!, other.email)
          await pages[0]!.waitForFunction((former) => client.getSnapshot().session !== former, snapshot)
          release.resolve()
          await late
          // The cookie is that of the new session, too.
          await Promise.all(pages.map((page) => token(page)))
          const after = await tabs.session(pages)
          expect(after).toBeDefined()
          expect(after).not.toBe(before)
          const users = pages.map((page) => page.evaluate(async () => (await client.user()).id))
          expect(new Set(await Promise.all(users))).toEqual(new Set([other.userId]))
          // The former session did not stay behind.
          await vi.waitUntil(async () => {
            const [row] = await tabs.service.sql`select revoked_at from sessions where id = ${before ?? ''}`
            return row?.['revoked_at'] !== null
          }, 20_000)
        })

        test.each([
          ['full', "Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceededError') }"],
          [
            'throwing',
            "Object.defineProperty(window, 'localStorage', { get: () => { throw new DOMException('', 'SecurityError') } })",
          ],
          ['absent', "Object.defineProperty(window, 'localStorage', { value: undefined })"],
        ])('08 a storage that is %s', async (_, prepare) => {
          const tabs = await open(prepare)
          const pages = await tabs.signedIn(2)
          await pages[1]!.waitForFunction(() => client.getSnapshot().status === 'signed_in')
          await Promise.all(pages.map((page) => token(page)))
          expect(await tabs.session(pages)).toBeDefined()
          await pages[1]!.evaluate(() => client.signOut())
          await pages[0]!.waitForFunction(() => client.getSnapshot().status === 'signed_out')
          expect(await tabs.session(pages)).toBeUndefined()
        })

        test('09 no BroadcastChannel', async () => {
          const tabs = await open('delete window.BroadcastChannel')
          const pages = await tabs.signedIn(4)
          await Promise.all(pages.map((page) => token(page)))
          expect(tabs.refreshes).toBeLessThanOrEqual(6)
          const session = await tabs.session(pages)
          expect(session).toBeDefined()
          await tabs.age(3600)
          await Promise.all(pages.map((page) => token(page)))
          expect(await tabs.session(pages)).toBe(session)
          await pages[3]!.evaluate(() => client.signOut())
          expect(await tabs.session(pages)).toBeUndefined()
        })

        test('10 back from the back-forward cache, in which it missed what the others did', async () => {
          const tabs = await open()
          const pages = await tabs.signedIn(2)
          const [gone, stayed] = pages as [(typeof pages)[0], (typeof pages)[0]]
          await gone.evaluate(() => {
            addEventListener('pageshow', (event) => Object.assign(globalThis, { wasKept: event.persisted }))
          })
          await goElsewhere(gone)
          for (let n = 0; n < 3; n++) await token(stayed)
          await gone.evaluate(() => history.back())
          await gone.waitForFunction(() => Reflect.get(globalThis, 'wasKept') === true)
          expect(await tabs.session(pages)).toBeDefined()
          await goElsewhere(gone)
          await stayed.evaluate(() => client.signOut())
          await gone.evaluate(() => history.back())
          await gone.waitForFunction(() => 'client' in globalThis && client.getSnapshot().status === 'signed_out')
        })

        test.each([-3600, 3600])('11 a clock that is off by %i seconds', async (seconds) => {
          const tabs = await open(`const now = Date.now; Date.now = () => now() + ${seconds * 1000}`)
          const pages = await tabs.signedIn(2)
          const before = await token(pages[0]!, 30)
          expect(await token(pages[0]!, 30)).toBe(before)
          await Promise.all(pages.map((page) => token(page)))
          expect(await tabs.session(pages)).toBeDefined()
          expect(tabs.refreshes).toBeLessThanOrEqual(4)
        })

        test('12 a service that is away for a while', async () => {
          const tabs = await open()
          const pages = await tabs.signedIn(2)
          const before = await token(pages[0]!, 0)
          tabs.wire.rule = always(refresh, away())
          expect(await token(pages[0]!)).toBe(before)
          await pages[0]!.evaluate(() => {
            const now = Date.now
            Date.now = () => now() + 120_000
          })
          expect(await attempt(pages[0]!)).toBe('unreachable')
          tabs.wire.rule = always(refresh, away(60))
          const sent = tabs.refreshes
          expect(await attempt(pages[0]!)).toBe('unreachable')
          // Nobody asks again before the minute is over.
          expect(await attempt(pages[0]!)).toBe('unreachable')
          expect(tabs.refreshes).toBe(sent + 1)
          await pages[0]!.evaluate(
            'const then = performance.now.bind(performance); performance.now = () => then() + 60_000',
          )
          expect(await status(pages[0]!)).toBe('signed_in')
          tabs.wire.rule = always(refresh, { kind: 'fail', status: 403, body: 'Sign in to the wifi' })
          expect(await attempt(pages[0]!)).toBe('unreachable')
          tabs.wire.rule = () => undefined
          expect(await attempt(pages[0]!)).toBe('token')
          expect(await tabs.session(pages)).toBeDefined()
        })

        test('13 a SECRET_KEY that was changed', async () => {
          const tabs = await open()
          const pages = await tabs.signedIn(3)
          const { app } = await startService({ SECRET_KEY: 'another-key-for-tests-0123456789-zyxwvuts' }, tabs.service)
          tabs.wire.target = await app.listen({ host: '127.0.0.1', port: 0 })
          const call = () => client.fetch('/api/v1/me').then(({ status }) => status)
          expect(await Promise.all(pages.map((page) => page.evaluate(call)))).toEqual([200, 200, 200])
          expect(await Promise.all(pages.map((page) => attempt(page)))).toEqual(['token', 'token', 'token'])
          expect(await metric(app, 'auth_refresh_total{outcome="reused"}')).toBe(0)
        })

        test('14 a subscriber that calls everything, and one that throws', async () => {
          const tabs = await open()
          const pages = await tabs.signedIn(2)
          const calls = await pages[0]!.evaluate(async () => {
            let calls = 0
            client.onChange(() => {
              throw new Error('of the subscriber')
            })
            const stop = client.onChange(({ status }) => {
              calls++
              client.getSnapshot()
              void client.getAccessToken()
              if (status === 'signed_in' && calls < 5) void client.signOut()
              client.onChange(() => {})()
            })
            await new Promise((resolve) => setTimeout(resolve, 100))
            stop()
            return calls
          })
          expect(calls).toBe(2)
          expect(await tabs.session(pages)).toBeUndefined()
          expect(
            await tabs.service.sql`select from sessions where revoked_at is null and epoch = 0 limit 1`.catch(() => []),
          ).toBeDefined()
        })

        test('15 a client that is created twice, and one of them disposed of', async () => {
          const tabs = await open()
          const pages = await tabs.signedIn(2)
          const session = await tabs.session(pages)
          tabs.wire.requests.length = 0
          const seen = await pages[0]!.evaluate(async () => {
            const first = createAnother()
            const second = createAnother()
            const states: string[] = []
            first.onChange(({ status }) => states.push(`first ${status}`))
            second.onChange(({ status }) => states.push(`second ${status}`))
            first.dispose()
            await Promise.all([client, first, second].map((one) => one.getAccessToken({ minValidity: 61 })))
            await second.signOut({ scope: 'local' })
            await new Promise((resolve) => setTimeout(resolve, 100))
            return { states, snapshot: client.getSnapshot().status }
          })
          expect(session).toBeDefined()
          expect(seen).toEqual({
            states: ['first signed_in', 'second signed_in', 'second signed_out'],
            snapshot: 'signed_out',
          })
          expect(tabs.refreshes).toBeLessThanOrEqual(5)
          expect(await tabs.session(pages)).toBeUndefined()
        })

        test('16 a tab that is closed between the answer and its being stored', async () => {
          const tabs = await open()
          const pages = await tabs.signedIn(2)
          const release = Promise.withResolvers<void>()
          tabs.wire.rule = first(1, refresh, { kind: 'held', until: release.promise })
          void token(pages[0]!).catch(() => {})
          await vi.waitUntil(() => tabs.refreshes === 1, 20_000)
          await pages[0]!.close()
          release.resolve()
          const rest = [pages[1]!, await tabs.add()]
          await Promise.all(rest.map((page) => token(page)))
          expect(await tabs.session(rest)).toBeDefined()
        })

        test('17 half an hour without a network, after an answer that was lost', async () => {
          const tabs = await open()
          const pages = await tabs.signedIn(2)
          tabs.wire.rule = always(refresh, lost)
          await token(pages[0]!)
          tabs.wire.isCut = true
          await tabs.age(1800)
          const later = 'const now = Date.now; Date.now = () => now() + 1_800_000'
          await Promise.all(pages.map((page) => page.evaluate(later)))
          expect(await Promise.all(pages.map((page) => attempt(page, 30)))).toEqual(['unreachable', 'unreachable'])
          tabs.wire.isCut = false
          tabs.wire.rule = () => undefined
          expect(await tabs.session(pages)).toBeDefined()
        })

        test('18 two versions of the client in two tabs', async () => {
          const tabs = await open()
          const [old] = await tabs.signedIn(1)
          const written = 'inCookie ? { ...next, accessToken: undefined } : next'
          const next = await tabs.add({ [written]: `{ more: 1, ...(${written}) }` })
          const pages = [old!, next]
          for (const page of [next, old!, next]) await token(page)
          expect(await tabs.session(pages)).toBeDefined()
          await old!.evaluate(() => client.signOut())
          expect(await tabs.session(pages)).toBeUndefined()
        })
      },
    )
  })
}

import { randomInt, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Browser } from './browser.ts'
import { browsers } from './browsers.ts'
import { Tabs, token, type Transport } from './tabs.ts'
import type { Fault } from './wire.ts'

/** Of a working day; `SOAK_HOURS=12` takes five minutes for each transport. */
const hours = Number(process.env['SOAK_HOURS'] ?? 1)
const tokenSeconds = 60
const [[name, launch, reason]] = browsers

/** What becomes of every tenth request. */
function someFault(): Fault | undefined {
  if (randomInt(10) > 0) return undefined
  const faults: Fault[] = [{ kind: 'lose' }, { kind: 'late', ms: randomInt(4000) }, { kind: 'fail', status: 503 }]
  return faults[randomInt(faults.length)]
}

describe.skipIf(reason !== undefined)(`${hours} hours of five tabs in ${name}`, () => {
  let browser: Browser
  beforeAll(async () => {
    browser = await launch()
  })
  afterAll(() => browser?.close())

  test.each<Transport>(['cookie', 'storage'])(
    'sign nobody out and lose no card, with the transport %s',
    { timeout: hours * 60_000 + 60_000 },
    async (transport) => {
      const tabs = await Tabs.open(
        browser,
        transport,
        'const now = Date.now; globalThis.later = 0; Date.now = () => now() + later',
      )
      const pages = await tabs.signedIn(5)
      const session = await tabs.session(pages)
      const cards = new Set<string>()
      const since = { seconds: 0 }
      const pass = async (more: number) => {
        since.seconds += more
        await tabs.age(more)
        await Promise.all(
          pages.map((page) => page.evaluate((ms) => void Reflect.set(globalThis, 'later', ms), since.seconds * 1000)),
        )
      }
      /** As an app does it: again while there is no answer, which no request minds. */
      const add = (page: (typeof pages)[0], card: string) =>
        page.evaluate(async (card) => {
          for (let attempt = 0; attempt < 20; attempt++) {
            const reply = await client.fetch(`/cards/${card}`, { method: 'PUT' }).catch(() => undefined)
            if (reply?.status === 204 || reply?.status === 401) return reply.status
          }
          return 0
        }, card)

      tabs.wire.rule = someFault
      const sleeps = [hours / 3, (2 * hours) / 3].map((hour) => hour * 3600)
      while (since.seconds < hours * 3600) {
        const awake = pages.filter(() => randomInt(2) === 0)
        const added = awake.map(async (page) => {
          const card = randomUUID()
          cards.add(card)
          return add(page, card)
        })
        expect(new Set(await Promise.all(added))).not.toContain(401)
        await pass(tokenSeconds)
        if (since.seconds < (sleeps[0] ?? Infinity)) continue
        // The lid is closed with a request under way.
        sleeps.shift()
        tabs.wire.rule = () => ({ kind: 'lose' })
        await token(pages[0]!).catch(() => {})
        await pass((hours * 3600) / 6)
        tabs.wire.rule = someFault
      }

      tabs.wire.rule = () => undefined
      expect(await tabs.session(pages)).toBe(session)
      expect(tabs.wire.cards).toEqual(cards)
      console.log(
        `${transport}: ${tabs.refreshes} refreshes, ${cards.size} cards, ${tabs.wire.requests.length} requests`,
      )
    },
  )
})

import { readFileSync } from 'node:fs'
import { decodeJwt } from 'jose'
import { expect, vi } from 'vitest'
import type { Client, LatchkeyError } from '../../client/src/index.ts'
import { metric, password, signedUp } from '#test/support/actors.ts'
import { cleanUp } from '#test/support/clean-up.ts'
import { type Service, startService } from '#test/support/service.ts'
import type { Browser, Tab } from './browser.ts'
import { Wire } from './wire.ts'

declare global {
  // What a tab has, see wire.ts; the functions that tests send there see it too.
  var client: Client
  var createAnother: () => Client
  var isOurs: (error: unknown) => error is LatchkeyError
}

export type Transport = 'cookie' | 'storage'

/** What tabs import; another one tries whether a case can fail (broken.ts). */
const source = readFileSync(process.env['CLIENT_FILE'] ?? new URL('../../src/pages/client.js', import.meta.url), 'utf8')

/** A service behind a wire, and one browser with any number of tabs. */
export class Tabs {
  readonly service: Service
  readonly wire: Wire
  readonly origin: string
  readonly add: (changes?: Record<string, string>) => Promise<Tab>
  readonly transport: Transport
  readonly email: string

  private constructor(parts: Pick<Tabs, 'service' | 'wire' | 'origin' | 'transport' | 'email' | 'add'>) {
    this.service = parts.service
    this.wire = parts.wire
    this.origin = parts.origin
    this.transport = parts.transport
    this.email = parts.email
    this.add = parts.add
  }

  /** With `prepare`, a script that runs in every tab before all others. */
  static async open(browser: Browser, transport: Transport, prepare?: string): Promise<Tabs> {
    const service = await startService({ ACCESS_TOKEN_EXPIRE_MINUTES: '1', REFRESH_GRACE_SECONDS: '10' })
    const wire = new Wire(await service.app.listen({ host: '127.0.0.1', port: 0 }))
    wire.modules.set('/client.js', source)
    if (prepare !== undefined) wire.prepare = prepare
    const origin = await wire.listen()
    const { tab, close } = await browser.open()
    cleanUp(close)
    const { email } = await signedUp(service.app)
    /** A tab; with `changes`, one of a client in which each of these texts is the other one. */
    const add = async (changes: Record<string, string> = {}) => {
      const page = await tab()
      let module = '/client.js'
      if (Object.keys(changes).length > 0) {
        module = `/client-${wire.modules.size}.js`
        wire.modules.set(module, changed(source, changes))
      }
      await page.goto(`${origin}/tab?transport=${transport}&client=${module}`)
      await page.waitForFunction(() => 'client' in globalThis)
      return page
    }
    return new Tabs({ service, wire, origin, transport, email, add })
  }

  /** Any number of tabs that are signed in. */
  async signedIn(count: number): Promise<Tab[]> {
    const pages = await Promise.all(Array.from({ length: count }, () => this.add()))
    await signIn(pages[0] as Tab, this.email)
    await Promise.all(pages.map((page) => page.waitForFunction(() => client.getSnapshot().status === 'signed_in')))
    this.wire.requests.length = 0
    return pages
  }

  get refreshes(): number {
    return this.wire.count('/api/v1/refresh')
  }

  /** Resolves to the one session of all tabs, or to none if all are signed out; nothing else may be. */
  async session(pages: readonly Tab[]): Promise<string | undefined> {
    // What one tab stores the others are told in a moment, or see at their next look.
    await vi.waitUntil(async () => new Set(await Promise.all(pages.map(status))).size === 1, 20_000)
    const tokens = await Promise.all(pages.map((page) => token(page, 30)))
    const sessions = new Set(tokens.map((token) => (token === undefined ? undefined : decodeJwt(token)['sid'])))
    expect([...sessions]).toHaveLength(1)
    for (const token of tokens.filter((token) => token !== undefined)) {
      const headers = { authorization: `Bearer ${token}` }
      expect((await this.service.app.inject({ url: '/api/v1/me', headers })).statusCode).toBe(200)
    }
    expect(await metric(this.service.app, 'auth_refresh_total{outcome="reused"}')).toBe(0)
    return [...sessions][0] as string | undefined
  }

  /** What so much time does to a window in which a retry is granted. */
  async age(seconds: number): Promise<void> {
    const { sql } = this.service
    await sql`update refresh_tokens set issued_at = issued_at - make_interval(secs => ${seconds})`
  }
}

function changed(text: string, changes: Record<string, string>): string {
  return Object.entries(changes).reduce((text, [from, to]) => {
    if (text.split(from).length !== 2) throw new Error(`not there once: ${from}`)
    return text.replace(from, () => to)
  }, text)
}

export async function signIn(page: Tab, username: string): Promise<void> {
  await page.evaluate(
    async ({ username, password }) => {
      await client.signIn({ username, password })
    },
    { username, password },
  )
}

/** The access token of a tab; one that lasts as long as `minValidity` is never there, so 61 asks for another. */
export function token(page: Tab, minValidity = 61): Promise<string | undefined> {
  return page.evaluate((minValidity) => client.getAccessToken({ minValidity }), minValidity)
}

/** As `token`, or the code of what it throws. */
export function attempt(page: Tab, minValidity = 61): Promise<string> {
  return page.evaluate(
    (minValidity) =>
      client.getAccessToken({ minValidity }).then(
        (token) => (token === undefined ? 'signed out' : 'token'),
        (error: unknown) => (isOurs(error) ? error.code : `not ours: ${String(error)}`),
      ),
    minValidity,
  )
}

export function status(page: Tab): Promise<string> {
  return page.evaluate(() => client.getSnapshot().status)
}

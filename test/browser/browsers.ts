import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { Page } from 'playwright-core'
import { launchBrowser, noBrowser } from '#test/support/browser.ts'

/** What both drivers can do with a tab. */
export type Tab = Pick<Page, 'evaluate' | 'waitForFunction' | 'goto' | 'close'>

export interface Browser {
  /** Tabs that share cookies and storage; `prepare` runs in each before its own scripts. */
  readonly open: (prepare?: string) => Promise<{ tab: () => Promise<Tab>; close: () => Promise<unknown> }>
  readonly close: () => Promise<unknown>
  /** Freezes a tab as an operating system does that needs the memory, and thaws it. */
  readonly freeze?: (tab: Tab, isFrozen: boolean) => Promise<unknown>
}

async function launchChromium(): Promise<Browser> {
  const browser = await launchBrowser()
  return {
    open: async (prepare) => {
      const context = await browser.newContext()
      if (prepare !== undefined) await context.addInitScript(prepare)
      return { tab: () => context.newPage(), close: () => context.close() }
    },
    close: () => browser.close(),
    freeze: async (tab, isFrozen) => {
      const session = await (tab as Page).context().newCDPSession(tab as Page)
      await session.send('Page.setWebLifecycleState', { state: isFrozen ? 'frozen' : 'active' })
    },
  }
}

interface Puppeteer {
  launch: (options: object) => Promise<{
    createBrowserContext: () => Promise<{
      newPage: () => Promise<Tab & { evaluateOnNewDocument: (script: string) => Promise<unknown> }>
      close: () => Promise<void>
    }>
    close: () => Promise<void>
  }>
}

const firefoxPath = '/usr/bin/firefox-esr'
const require = createRequire(new URL('../clients/package.json', import.meta.url))

/** By another driver: that of Chromium speaks to a Firefox of its own only. */
async function launchFirefox(): Promise<Browser> {
  const { launch } = require('puppeteer-core') as Puppeteer
  const browser = await launch({ browser: 'firefox', executablePath: firefoxPath, headless: true })
  return {
    open: async (prepare) => {
      const context = await browser.createBrowserContext()
      const tab = async () => {
        const page = await context.newPage()
        if (prepare !== undefined) await page.evaluateOnNewDocument(prepare)
        return page
      }
      return { tab, close: () => context.close() }
    },
    close: () => browser.close(),
  }
}

const noFirefox = existsSync(firefoxPath) ? undefined : `skipped: there is no browser at ${firefoxPath}`

/** Each with how it is launched, or why it cannot be. */
export const browsers = [
  ['Chromium', launchChromium, noBrowser],
  ['Firefox', launchFirefox, noFirefox],
] as const
for (const [name, , reason] of browsers) if (reason !== undefined) console.log(`${name}: ${reason}`)

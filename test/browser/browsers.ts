import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { Page } from 'playwright-core'
import { launchBrowser, noBrowser } from '#test/support/browser.ts'
import type { Browser, Tab } from './browser.ts'
import { launchWebKit, noWebKit } from './webkit.ts'

async function launchChromium(): Promise<Browser> {
  const browser = await launchBrowser()
  return {
    open: async () => {
      const context = await browser.newContext()
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
      newPage: () => Promise<Tab>
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
    open: async () => {
      const context = await browser.createBrowserContext()
      return { tab: () => context.newPage(), close: () => context.close() }
    },
    close: () => browser.close(),
  }
}

const noFirefox = existsSync(firefoxPath) ? undefined : `skipped: there is no browser at ${firefoxPath}`

/** Each with how it is launched, or why it cannot be. */
export const browsers = [
  ['Chromium', launchChromium, noBrowser],
  ['Firefox', launchFirefox, noFirefox],
  ['WebKitGTK', launchWebKit, noWebKit],
] as const
for (const [name, , reason] of browsers) if (reason !== undefined) console.log(`${name}: ${reason}`)

import { existsSync } from 'node:fs'
import { type Browser, chromium } from 'playwright-core'

const executablePath = '/usr/bin/chromium'
/** Why tests with a browser are skipped, if they are. */
export const noBrowser = existsSync(executablePath) ? undefined : `skipped: there is no browser at ${executablePath}`

/** A browser without a window that talks to nobody of itself. */
export function launchBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath,
    ignoreDefaultArgs: ['--disable-back-forward-cache'],
    args: [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
}

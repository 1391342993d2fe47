import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { password, signedUp } from '#test/support/actors.ts'
import { launchBrowser, noBrowser } from '#test/support/browser.ts'
import { startService } from '#test/support/service.ts'

const { app } = await startService()
const base = await app.listen({ host: '127.0.0.1', port: 0 })

describe.skipIf(noBrowser !== undefined)('/docs in a browser', { timeout: 120_000 }, () => {
  let browser: Browser
  const complaints: string[] = []
  beforeEach(() => void complaints.splice(0))
  beforeAll(async () => {
    browser = await launchBrowser()
  })
  afterAll(() => browser.close())

  const open = async (width: number): Promise<Page> => {
    const context = await browser.newContext({ viewport: { width, height: 640 }, isMobile: width < 500 })
    const page = await context.newPage()
    page.on('console', (message) => {
      if (message.type() === 'error') complaints.push(message.text())
    })
    page.on('pageerror', (error) => complaints.push(String(error)))
    await page.goto(`${base}/docs`)
    await page.getByRole('button', { name: 'Authorize' }).waitFor()
    return page
  }

  test.concurrent('is Latchkey by name and icon, and has no bar to explore other documents with', async () => {
    const page = await open(1200)
    expect(await page.title()).toBe('Latchkey')
    expect(await page.locator('.info .title').innerText()).toMatch(/^Latchkey/)
    const icons = await page
      .locator('link[rel~="icon"]')
      .evaluateAll((links) => links.map((link) => link.getAttribute('href')))
    expect(icons).toEqual([expect.stringMatching(/latchkey\.svg$/)])
    const icon = await app.inject(String(icons[0]))
    expect([icon.statusCode, icon.headers['content-type']]).toEqual([200, 'image/svg+xml'])
    expect(await page.locator('.topbar').count()).toBe(0)
    expect(await page.getByText('Explore').count()).toBe(0)
    expect(complaints).toEqual([])
  })

  test.concurrent('remembers the login over a reload', async () => {
    const { email } = await signedUp(app)
    const page = await open(1200)
    await page.getByRole('button', { name: 'Authorize' }).click()
    await page.locator('#oauth_username').fill(email)
    await page.locator('#oauth_password').fill(password)
    await page.locator('.modal-ux').getByText('Authorize', { exact: true }).click()
    await page.locator('.modal-ux').getByText('Logout', { exact: true }).waitFor()
    await page.reload()
    await page.locator('#operations-account-getMe').click()
    await page.getByRole('button', { name: 'Try it out' }).click()
    await page.getByRole('button', { name: 'Execute' }).click()
    await page.locator('.live-responses-table').getByText(email).waitFor()
    expect(complaints).toEqual([])
  })

  test.concurrent.each([320, 360, 390])('fits a telephone of %i pixels', async (width) => {
    const page = await open(width)
    const widthOf = () => page.evaluate('[innerWidth, document.documentElement.scrollWidth]')
    expect(await widthOf()).toEqual([width, width])
    await page.locator('#operations-login-logIn').click()
    await page.getByRole('button', { name: 'Try it out' }).waitFor()
    expect(await widthOf()).toEqual([width, width])
    await page.getByRole('button', { name: 'Authorize' }).click()
    const dialog = await page.locator('.modal-ux').boundingBox()
    expect(dialog?.width).toBeLessThanOrEqual(width)
    expect(await widthOf()).toEqual([width, width])
  })
})

if (noBrowser !== undefined) test('/docs in a browser', ({ skip }) => skip(noBrowser))

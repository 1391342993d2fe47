import { randomUUID } from 'node:crypto'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { get, password, post } from '#test/support/actors.ts'
import { launchBrowser, noBrowser } from '#test/support/browser.ts'
import { eventually, linkIn, type MailServer, startMailServer } from '#test/support/mail.ts'
import { onDatabase, send, type ServerProcess, startServer } from '#test/support/process.ts'
import { cloneDatabase, startService } from '#test/support/service.ts'

const newPassword = 'an entirely different phrase'
const files = ['/account/reset-password', '/account/verify-email', '/account/account.css', '/account/account.js']

describe('the pages of the links', () => {
  test('may load and call their own origin only, and hold no script or style of their own', async () => {
    const { app } = await startService()
    for (const path of files) {
      const { statusCode, headers, body } = await get(app, path)
      expect([path, statusCode]).toEqual([path, 200])
      expect(headers['content-security-policy']).toBe(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
      )
      expect(headers['referrer-policy']).toBe('no-referrer')
      expect(body).not.toMatch(/<script>|<style|style=|https?:|onclick/)
    }
  })

  test('work whatever contracts are mounted, and take tokens by POST only', async () => {
    const { app } = await startService({ CONTRACTS: 'ai-chat' })
    const token = `lko_${'A'.repeat(43)}`
    for (const path of ['/account/reset-password', '/account/verify-email']) {
      expect((await get(app, `${path}?token=${token}`)).statusCode).toBe(200)
      const reply = await post(app, path, { token, new_password: newPassword })
      expect([reply.statusCode, reply.json<{ code: string }>().code]).toEqual([400, 'one_time_token_invalid'])
    }
  })
})

describe.skipIf(noBrowser !== undefined)('a person with a browser', { timeout: 120_000 }, () => {
  let browser: Browser
  let mailServer: MailServer
  let server: ServerProcess
  let base: string
  const complaints: string[] = []
  beforeEach(() => void complaints.splice(0))

  beforeAll(async () => {
    browser = await launchBrowser()
    mailServer = await startMailServer()
    const { url } = await cloneDatabase()
    const environment = { SMTP_URL: mailServer.url, MAIL_FROM: 'auth@example.com' }
    server = startServer({ ...onDatabase(url), ...environment })
    base = await server.listening
  })
  afterAll(async () => {
    server.child.kill('SIGKILL')
    await browser.close()
  })

  const signUp = async () => {
    const email = `${randomUUID()}@example.com`
    await send(`${base}/api/v1/users/`, { email, password })
    return email
  }
  /** The link of the newest mail with that subject, at the port that the server happens to have. */
  const linkOf = async (email: string, subject: RegExp) => {
    const { mail } = await eventually(() =>
      mailServer.deliveries.findLast(({ to, mail }) => to.includes(email) && subject.test(mail.subject ?? '')),
    )
    return linkIn(mail).replace(/^http:\/\/localhost:\d+/, base)
  }
  const open = async (link: string): Promise<Page> => {
    const page = await browser.newPage({ viewport: { width: 360, height: 640 } })
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) complaints.push(message.text())
    })
    page.on('pageerror', (error) => complaints.push(String(error)))
    await page.goto(link)
    return page
  }
  const said = (page: Page, text: string) => page.getByRole('status').getByText(text).waitFor({ timeout: 10_000 })
  const logIn = (username: string, password: string) => send(`${base}/api/v1/token`, { username, password })

  test('sets a new password by the link in the mail and logs in with it', async () => {
    const email = await signUp()
    await send(`${base}/api/v1/forgot-password`, { email })
    const link = await linkOf(email, /^Set a new password/)
    const page = await open(link)
    expect(await page.evaluate('document.documentElement.scrollWidth <= innerWidth')).toBe(true)

    await page.getByLabel('New password').fill(newPassword)
    await page.getByLabel('The same again').fill('something else')
    await page.getByRole('button').click()
    await said(page, 'The two passwords are not the same.')
    await page.getByLabel('The same again').fill(newPassword)
    await page.getByRole('button').click()
    await said(page, 'Your password has been changed.')
    expect(page.url()).not.toContain('lko_')
    expect((await logIn(email, password)).status).toBe(401)
    expect((await logIn(email, newPassword)).status).toBe(200)
    expect(complaints).toEqual([])

    const again = await open(link)
    await again.getByLabel('New password').fill('yet another phrase')
    await again.getByLabel('The same again').fill('yet another phrase')
    await again.getByRole('button').click()
    await said(again, 'This link is not valid, was used already, or has expired.')
  })

  test('is told why a password cannot be used, and can choose another', async () => {
    const email = await signUp()
    await send(`${base}/api/v1/forgot-password`, { email })
    const page = await open(await linkOf(email, /^Set a new password/))
    for (const [text, answer] of [
      ['password123', 'The password is too common.'],
      [newPassword, 'Your password has been changed.'],
    ] as const) {
      await page.getByLabel('New password').fill(text)
      await page.getByLabel('The same again').fill(text)
      await page.getByRole('button').click()
      await said(page, answer)
    }
  })

  test('confirms an address by a click, and not by opening the page', async () => {
    const email = await signUp()
    const page = await open(await linkOf(email, /^Confirm your e-mail address/))
    const verified = async () => {
      const token = String((await logIn(email, password)).body['access_token'])
      return (await send(`${base}/api/v1/me`, undefined, { authorization: `Bearer ${token}` })).body['email_verified']
    }
    expect(await verified()).toBe(false)
    await page.getByRole('button', { name: 'Confirm' }).click()
    await said(page, 'Your e-mail address is confirmed.')
    expect(await verified()).toBe(true)
  })

  test('with half a link is asked to open it again', async () => {
    const page = await open(`${base}/account/verify-email`)
    await said(page, 'This link is not complete.')
    expect(await page.getByRole('button').isVisible()).toBe(false)
  })
})

if (noBrowser !== undefined) test('a person with a browser', ({ skip }) => skip(noBrowser))

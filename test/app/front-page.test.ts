import { existsSync } from 'node:fs'
import { chromium } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import { get, password, post, signedUp } from '#test/support/actors.ts'
import { linkIn, type Mail, mailTo } from '#test/support/mail.ts'
import { startService } from '#test/support/service.ts'

const executablePath = '/usr/bin/chromium'
const html = { accept: 'text/html,application/xhtml+xml;q=0.9,*/*;q=0.8' }
const strict = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
const production = { ENVIRONMENT: 'production', PUBLIC_URL: 'https://auth.example.com' }
const linksOf = (body: string) => [...body.matchAll(/href="([^"]*)"/g)].map(([, link = '']) => link)

const { app } = await startService()

describe('the page at /', () => {
  test('leads to what the service offers in development, and each link works', async () => {
    const { statusCode, headers, body } = await get(app, '/')
    expect([statusCode, headers['content-type']]).toEqual([200, 'text/html; charset=utf-8'])
    expect(headers['content-security-policy']).toBe(strict)
    const links = linksOf(body).slice(1)
    expect(links).toEqual(['docs', 'openapi.json', 'health', 'ready', 'metrics', 'dev/mails'])
    for (const link of links) expect([link, (await get(app, `/${link}`)).statusCode]).toEqual([link, 200])
  })

  test('leaves out what is switched off', async () => {
    const { app } = await startService({
      DOCS: 'off',
      METRICS: 'off',
      SMTP_URL: 'smtp://127.0.0.1:1',
      MAIL_FROM: 'auth@example.com',
    })
    expect(linksOf((await get(app, '/')).body).slice(1)).toEqual(['health', 'ready'])
  })

  test('gives only the name in production, and as text', async () => {
    const { app } = await startService({ ...production, SERVICE_NAME: 'Tom & <b>Jerry</b>' })
    const { statusCode, body } = await get(app, '/')
    expect(statusCode).toBe(200)
    expect(body).toContain('<h1>Tom &#38; &#60;b&#62;Jerry&#60;/b&#62;</h1>')
    expect(linksOf(body)).toEqual(['account/account.css'])
    expect(
      body
        .replace(/<head>.*<\/head>/s, '')
        .replaceAll(/<[^>]+>/g, '')
        .trim(),
    ).toBe('Tom &#38; &#60;b&#62;Jerry&#60;/b&#62;')
  })
})

describe('the mailbox of development', () => {
  test('is a page for a browser, with links to click and no script, and JSON for everybody else', async () => {
    const { email } = await signedUp(app, { full_name: 'Ada <script>alert(1)</script> & "Co"' })
    const mail = await mailTo(app, email)
    const { statusCode, headers, body } = await get(app, '/dev/mails', html)
    expect([statusCode, headers['content-type']]).toEqual([200, 'text/html; charset=utf-8'])
    expect(headers['content-security-policy']).toBe(strict)
    expect(headers['vary']).toContain('accept')
    expect(body).toContain(mail.subject)
    expect(body).toContain(email)
    expect(linksOf(body)).toContain(linkIn(mail))
    expect(body).not.toMatch(/<script|style=|onclick/)
    for (const accept of [{}, { accept: '*/*' }, { accept: 'application/json' }])
      expect((await get(app, '/dev/mails', accept)).json<Mail[]>()).toContainEqual(mail)
  })

  test('answers to names of this machine only, so that no page elsewhere can read it by a name that leads here', async () => {
    for (const [host, status] of [
      ['localhost', 200],
      ['localhost:8000', 200],
      ['LOCALHOST:8000', 200],
      ['auth.localhost:8000', 200],
      ['127.0.0.1:8000', 200],
      ['[::1]:8000', 200],
      ['evil.example', 404],
      ['evil.example:8000', 404],
      ['localhost.evil.example', 404],
      ['localhost:8000.evil.example', 404],
      ['notlocalhost', 404],
      ['127.0.0.1.evil.example', 404],
      ['192.168.1.2:8000', 404],
    ] as const)
      expect([host, (await get(app, '/dev/mails', { host })).statusCode]).toEqual([host, status])
  })

  test('is for who sits at this machine, not for who comes through a proxy', async () => {
    for (const name of ['x-forwarded-for', 'x-forwarded-host', 'forwarded', 'x-real-ip', 'via'])
      expect([name, (await get(app, '/dev/mails', { [name]: '127.0.0.1' })).statusCode]).toEqual([name, 404])
    const elsewhere = await app.inject({ url: '/dev/mails', remoteAddress: '192.0.2.1' })
    expect(elsewhere.statusCode).toBe(404)
  })

  test('keeps the last 100 mails', async () => {
    const { app, sql } = await startService()
    const { email } = await signedUp(app)
    await mailTo(app, email)
    await sql`insert into outbox (template, recipient, data)
      select 'password-changed', 'many@example.com', '{}' from generate_series(1, 105)`
    await post(app, '/api/v1/forgot-password', { email })
    await expect
      .poll(async () => (await sql`select from outbox where sent_at is null`).length, { timeout: 20_000 })
      .toBe(0)
    const mails = (await get(app, '/dev/mails')).json<Mail[]>()
    expect(mails).toHaveLength(100)
    expect(mails.filter(({ subject }) => subject.startsWith('Confirm'))).toHaveLength(0)
  })
})

describe.skipIf(!existsSync(executablePath))('a person with a browser', () => {
  test('comes from / by the mailbox to the page of a link', async () => {
    const base = await app.listen({ host: '127.0.0.1', port: 0 })
    const { email } = await signedUp(app)
    await post(app, '/api/v1/forgot-password', { email })
    await mailTo(app, email, 1)
    const args = ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking']
    const browser = await chromium.launch({ executablePath, args })
    try {
      const page = await browser.newPage({ viewport: { width: 360, height: 640 } })
      const complaints: string[] = []
      page.on('console', (message) => {
        if (['error', 'warning'].includes(message.type())) complaints.push(message.text())
      })
      await page.goto(base)
      await page.getByRole('link', { name: 'Mailbox' }).click()
      await page.getByRole('heading', { name: 'Set a new password' }).first().waitFor()
      expect(await page.evaluate('document.documentElement.scrollWidth <= innerWidth')).toBe(true)
      const link = await page
        .getByRole('link', { name: /reset-password#token=/ })
        .first()
        .getAttribute('href')
      await page.goto(String(link).replace(/^http:\/\/localhost:\d+/, base))
      await page.getByLabel('New password').fill(password)
      expect(complaints).toEqual([])
    } finally {
      await browser.close()
    }
  })
})

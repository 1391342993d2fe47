import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { launchBrowser, noBrowser } from '#test/support/browser.ts'
import { cloneDatabase, secretKey } from '#test/support/service.ts'

declare global {
  // What axe-core leaves in a page.
  var axe: { run: () => Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> }
}

interface Card {
  readonly title: string
  readonly column: string
}

const root = new URL('../..', import.meta.url).pathname
const axeFile = createRequire(join(root, 'test/clients/package.json')).resolve('axe-core')
const password = 'correct horse battery staple'
/** Where the picture of the README goes; with `SCREENSHOT` set it is taken anew. */
const picture = process.env['SCREENSHOT'] ? join(root, 'docs/kanban.png') : undefined
if (noBrowser !== undefined) console.log(`The board is ${noBrowser}`)

async function freePorts(count: number): Promise<string[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((server) => once(server, 'listening')))
  const ports = servers.map((server) => String((server.address() as { port: number }).port))
  for (const server of servers) server.close()
  return ports
}

describe.skipIf(noBrowser !== undefined).each(['jwks', 'validate'])('the board, its API by %s', (verify) => {
  let browser: Browser
  let url: string
  let stop: (() => Promise<void>) | undefined
  beforeAll(async () => {
    execFileSync('npm', ['ci', '--prefix', 'examples/kanban', '--silent', '--no-audit', '--no-fund'], { cwd: root })
    execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'client'], { cwd: root })
    const database = await cloneDatabase()
    const [PORT = '', API_PORT = '', APP_PORT = ''] = await freePorts(3)
    const env = { ...process.env, DATABASE_URL: database.url, SECRET_KEY: secretKey, LOG_LEVEL: 'silent', SWEEP: 'off' }
    const ports = { PORT, API_PORT, APP_PORT, VERIFY: verify, ACCESS_TOKEN_EXPIRE_MINUTES: '1' }
    const child = spawn(process.execPath, ['examples/kanban/start.js'], {
      cwd: root,
      env: { ...env, ...ports },
      stdio: 'ignore',
      detached: true,
    })
    const exited = once(child, 'exit')
    stop = async () => {
      child.kill('SIGINT')
      await exited
    }
    url = `http://localhost:${APP_PORT}`
    const isUp = (path: string) =>
      fetch(url + path).then(
        ({ status }) => status < 500,
        () => false,
      )
    await vi.waitUntil(async () => (await isUp('/')) && (await isUp('/api/v1/health')) && (await isUp('/board')), {
      timeout: 50_000,
      interval: 200,
    })
    browser = await launchBrowser()
  }, 180_000)
  afterAll(async () => {
    await browser?.close()
    await stop?.()
  })

  const open = async (viewport = { width: 1000, height: 640 }) => {
    const context = await browser.newContext({ viewport })
    const page = await context.newPage()
    await page.goto(url)
    return page
  }
  const register = async (page: Page, email = `${randomUUID()}@example.com`) => {
    await page.getByRole('button', { name: 'I am new here' }).click()
    await page.getByLabel('E-mail').fill(email)
    await page.getByLabel('Password').fill(password)
    await page.getByRole('button', { name: 'Register' }).click()
    await page.getByLabel('New card').waitFor()
    return email
  }
  const logIn = async (page: Page, email: string) => {
    await page.getByLabel('E-mail').fill(email)
    await page.getByLabel('Password').fill(password)
    await page.getByRole('button', { name: 'Log in' }).click()
    await page.getByLabel('New card').waitFor()
  }
  /** Resolves when the API has answered with a board whose column, in order, is this. */
  const stored = async (page: Page, name: string, ...titles: string[]) => {
    await page.waitForResponse(async (response) => {
      if (!response.url().includes('/board/cards/') || !response.ok()) return false
      const cards = (await response.json()) as Card[]
      const inColumn = cards.filter(({ column }) => column === name).map(({ title }) => title)
      return inColumn.slice(-titles.length).join() === titles.join()
    })
  }
  const add = async (page: Page, title: string) => {
    const isStored = stored(page, 'todo', title)
    await page.getByLabel('New card').fill(title)
    await page.keyboard.press('Enter')
    await page.getByRole('button', { name: title, exact: true }).waitFor()
    await isStored
  }
  const column = (page: Page, name: string) => page.getByRole('region', { name, exact: true }).locator('.card')
  const shows = (page: Page, name: string, ...titles: string[]) =>
    vi.waitUntil(async () => (await column(page, name).allInnerTexts()).join() === titles.join(), { timeout: 20_000 })
  const faults = async (page: Page) => {
    await page.addScriptTag({ path: axeFile })
    const { violations } = await page.evaluate(() => axe.run())
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`)
  }

  test('has types that fit', () => {
    const options = ['node_modules/typescript/bin/tsc', '-p', 'examples/kanban', '--noEmit']
    const { status, stdout } = spawnSync(process.execPath, options, { cwd: root, encoding: 'utf8' })
    expect([status, stdout]).toEqual([0, ''])
  })

  test('is used by the keyboard alone', async () => {
    const page = await open()
    const press = async (...keys: string[]) => {
      for (const key of keys) await page.keyboard.press(key)
    }
    await page.getByRole('button', { name: 'I am new here' }).focus()
    await press('Enter')
    await page.getByRole('heading', { name: 'Register' }).waitFor()
    await press('Shift+Tab', 'Shift+Tab', 'Shift+Tab')
    await page.keyboard.type(`${randomUUID()}@example.com`)
    await press('Tab')
    await page.keyboard.type(password)
    await press('Enter')
    await page.getByLabel('New card').waitFor()
    // Devices, log out, the new card.
    await press('Tab', 'Tab', 'Tab')
    for (const title of ['Write the plan', 'Draw the logo']) {
      const isStored = stored(page, 'todo', title)
      await page.keyboard.type(title)
      await press('Enter')
      await page.getByRole('button', { name: title, exact: true }).waitFor()
      await isStored
    }
    // The button beside the field, then the first card.
    const isMoved = stored(page, 'doing', 'Write the plan')
    await press('Tab', 'Tab', 'Space', 'ArrowRight', 'Space')
    await shows(page, 'Doing', 'Write the plan')
    await isMoved
    // The first move is slow: the second waits for it, or the board would be stored in another order.
    const slow = Promise.withResolvers<void>()
    const moves: unknown[] = []
    await page.route('**/board/cards/*', async (route) => {
      moves.push(route.request().postDataJSON())
      if (moves.length === 1) await slow.promise
      await route.continue()
    })
    await page.getByRole('button', { name: 'Draw the logo', exact: true }).focus()
    await press('Space', 'ArrowRight', 'ArrowUp', 'Space')
    await shows(page, 'Doing', 'Draw the logo', 'Write the plan')
    await vi.waitUntil(() => moves.length > 0, 20_000)
    await page.evaluate(() => fetch('/board').then(({ status }) => status))
    expect(moves).toEqual([{ title: 'Draw the logo', column: 'doing' }])
    const isInOrder = stored(page, 'doing', 'Draw the logo', 'Write the plan')
    slow.resolve()
    await isInOrder
    await shows(page, 'Doing', 'Draw the logo', 'Write the plan')
    await page.reload()
    await shows(page, 'Doing', 'Draw the logo', 'Write the plan')
  })

  test('keeps what was added when an older answer comes late', async () => {
    const page = await open()
    const [late, answered] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    let loads = 0
    await page.route('**/board', async (route) => {
      const reply = await route.fetch()
      if (++loads > 1) return route.fulfill({ response: reply })
      await late.promise
      // The app gives up after a while.
      await route.fulfill({ response: reply }).catch(() => {})
      answered.resolve()
    })
    await register(page)
    await add(page, 'Mine')
    late.resolve()
    await answered.promise
    await page.evaluate(() => fetch('/').then(({ status }) => status))
    await shows(page, 'To do', 'Mine')
  })

  test('stores nothing of one user on the board of another', async () => {
    const page = await open()
    await register(page)
    const slow = Promise.withResolvers<void>()
    let changes = 0
    await page.route('**/board/cards/*', async (route) => {
      changes++
      await slow.promise
      await route.continue()
    })
    for (const title of ['Mine', 'Mine, too']) {
      await page.getByLabel('New card').fill(title)
      await page.keyboard.press('Enter')
      await page.getByRole('button', { name: title, exact: true }).waitFor()
    }
    await page.getByRole('button', { name: 'Log out' }).click()
    await register(page)
    const isAnswered = page.waitForResponse('**/board/cards/*')
    slow.resolve()
    await (await isAnswered).finished()
    await page.evaluate(() => fetch('/').then(({ status }) => status))
    await page.reload()
    await page.getByLabel('New card').waitFor()
    await shows(page, 'To do')
    expect(changes).toBe(1)
  })

  test('is used by the pointer', async () => {
    const page = await open({ width: 1000, height: 480 })
    await register(page, picture === undefined ? undefined : `ada.${verify}@example.com`)
    for (const title of ['Write the plan', 'Draw the logo', 'Choose a name', 'Send invitations']) await add(page, title)
    await column(page, 'To do')
      .getByText('Write the plan')
      .dragTo(page.getByRole('region', { name: 'Done' }))
    await column(page, 'To do')
      .getByText('Draw the logo')
      .dragTo(page.getByRole('region', { name: 'Doing' }))
    await shows(page, 'Doing', 'Draw the logo')
    await shows(page, 'Done', 'Write the plan')
    if (picture !== undefined && verify === 'jwks') await page.screenshot({ path: picture })
    await page.getByRole('button', { name: 'Delete Choose a name' }).click()
    await shows(page, 'To do', 'Send invitations')
  })

  test('fits a screen of 320 pixels, and axe finds nothing', async () => {
    const page = await open({ width: 320, height: 640 })
    expect(await faults(page)).toEqual([])
    await register(page)
    await add(page, 'A card whose title is rather long, withoneverylongwordinitthatcannotbebrokenatanyplace')
    await page.getByRole('button', { name: 'Devices' }).click()
    await page.getByText('This device').waitFor()
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(320)
    expect(await faults(page)).toEqual([])
  })

  test('says which field was refused', async () => {
    const page = await open()
    await page.getByRole('button', { name: 'I am new here' }).click()
    await page.getByLabel('E-mail').fill(`${randomUUID()}@example.com`)
    await page.getByLabel('Password').fill('password1')
    await page.getByRole('button', { name: 'Register' }).click()
    await page.getByText(/password .*too common/).waitFor()
    expect(await page.getByRole('alert').innerText()).toMatch(/password/)
  })

  test('shows each user their own cards, ends another device, and logs out everywhere', async () => {
    const [first, second, third] = [await open(), await open(), await open()]
    const email = await register(first)
    await add(first, 'Mine')
    await logIn(second, email)
    await register(third)
    await shows(second, 'To do', 'Mine')
    await shows(third, 'To do')
    await first.getByRole('button', { name: 'Devices' }).click()
    await first.getByRole('button', { name: 'Log out there' }).click()
    await first.getByRole('button', { name: 'Log out there' }).waitFor({ state: 'detached' })
    await second.evaluate(() => dispatchEvent(new Event('online')))
    await second.reload()
    await second.getByRole('button', { name: 'Log in' }).waitFor()
    await logIn(second, email)
    await first.getByRole('button', { name: 'Log out everywhere' }).click()
    await first.getByRole('button', { name: 'Log in' }).waitFor()
    await second.reload()
    await second.getByRole('button', { name: 'Log in' }).waitFor()
    expect(await third.getByLabel('New card').count()).toBe(1)
  })
})

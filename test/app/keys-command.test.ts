import { describe, expect, test } from 'vitest'
import { runAdmin } from '#test/support/admin.ts'
import { cloneDatabase, startService } from '#test/support/service.ts'

const settings = { ALGORITHM: 'ES256' }

/** Each line of `keys list` as [id, algorithm, state]. */
async function listed(url: string, environment: Record<string, string> = settings): Promise<string[][]> {
  const { stdout } = await runAdmin(url, ['keys', 'list'], '', environment)
  return stdout
    .trim()
    .split('\n')
    .map((line) => line.split(/ {2,}/))
}

const { url, sql } = await cloneDatabase()

describe('admin keys', () => {
  test('makes no key by looking, and says that there is none', async () => {
    expect(await listed(url)).toEqual([['No key yet; the service makes the first one when it starts.']])
    expect(await sql`select from signing_keys`).toHaveLength(0)
  })

  test('lists what each key does now, across a rotation and an end', async () => {
    const { app, url, sql } = await startService(settings)
    const first = String(app.keyRing.current()?.kid)
    expect(await listed(url)).toEqual([[first, 'ES256', 'signs']])

    const rotated = await runAdmin(url, ['keys', 'rotate'], '', settings)
    expect(rotated.stdout).toBe('The next key is published and signs in 10 minutes.\n')
    const [[next = '', ...state] = [], ...others] = await listed(url)
    expect([state, ...others]).toEqual([
      ['ES256', 'signs in 10 minutes'],
      [first, 'ES256', 'signs'],
    ])
    const refused = await runAdmin(url, ['keys', 'retire', first], '', settings)
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining(`${first} signs.`)])

    await sql`update signing_keys set signs_from = now() where kid = ${next}`
    expect(await listed(url)).toEqual([
      [next, 'ES256', 'signs'],
      [first, 'ES256', expect.stringMatching(/^verifies for 4[01] minutes$/)],
    ])
    const retired = await runAdmin(url, ['keys', 'retire', first], '', settings)
    expect([retired.code, retired.stdout]).toEqual([0, `${first} has ended; every instance knows within 10 seconds.\n`])
    await app.keyRing.load()
    expect(app.keyRing.publicKeys().map(({ kid }) => kid)).toEqual([next])
    expect((await runAdmin(url, ['keys', 'retire', first], '', settings)).stderr).toContain('There is no key')
  })

  test('says that HS256 signs until the key of another algorithm does, and then no longer', async () => {
    const former = await startService()
    await former.app.close()
    const { url, sql } = await startService(settings, former)
    const states = async () => (await listed(url)).map(([, ...state]) => state)
    expect(await states()).toEqual([
      ['ES256', 'signs in 10 minutes'],
      ['HS256', 'signs'],
    ])
    await sql`update signing_keys set signs_from = now() where algorithm = 'ES256'`
    expect(await states()).toEqual([
      ['ES256', 'signs'],
      ['HS256', expect.stringMatching(/^verifies for 4[01] minutes$/)],
    ])
  })

  test.each([
    [[], {}],
    [['list', 'x'], {}],
    [['rotate', '--later'], settings],
    [['rotate'], {}],
    [['retire'], settings],
  ])('refuses the words %j', async (words, environment) => {
    const { code, stderr } = await runAdmin(url, ['keys', ...words], '', environment)
    expect([code, stderr]).toEqual([
      2,
      expect.stringMatching(/(Usage: npm run admin -- keys|keys list|ALGORITHM=HS256)/),
    ])
  })
})

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { get } from '#test/support/actors.ts'
import { cleanUp } from '#test/support/clean-up.ts'
import { startService } from '#test/support/service.ts'

const root = new URL('../..', import.meta.url).pathname
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
const { app } = await startService()

describe('/client.js', () => {
  test('is the client as it is built (npm run client)', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'latchkey-client-'))
    cleanUp(() => rmSync(folder, { recursive: true }))
    const tsc = join(root, 'node_modules/typescript/bin/tsc')
    execFileSync(process.execPath, [tsc, '-p', 'client', '--outDir', folder], { cwd: root })
    const { body, headers } = await get(app, '/client.js')
    expect(body).toBe(readFileSync(join(folder, 'index.js'), 'utf8'))
    expect(headers['content-type']).toBe('text/javascript; charset=utf-8')
  })

  test('is kept for good under its version, and otherwise asked for anew', async () => {
    const cacheOf = async (url: string) => (await get(app, url)).headers['cache-control']
    expect(await cacheOf(`/client.js?v=${version}`)).toBe('public, max-age=31536000, immutable')
    expect(await cacheOf('/client.js')).toBe('no-cache')
    expect(await cacheOf('/client.js?v=0.0.1')).toBe('no-cache')
    const { headers } = await get(app, '/client.js')
    expect(headers['pragma']).toBeUndefined()
    expect((await get(app, '/client.js', { 'if-none-match': String(headers['etag']) })).statusCode).toBe(304)
  })

  test('has the version of the service', () => {
    const client = JSON.parse(readFileSync(join(root, 'client/package.json'), 'utf8')) as { version: string }
    expect(client.version).toBe(version)
    expect(readFileSync(join(root, 'docs/single-page-app.md'), 'utf8')).toContain(`/client.js?v=${version}`)
  })
})

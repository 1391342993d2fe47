import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, describe, expect, test } from 'vitest'

const root = new URL('../..', import.meta.url).pathname
const bin = join(root, 'test/clients/node_modules/.bin')
const most = 3 * 1024
const folder = mkdtempSync(join(tmpdir(), 'latchkey-package-'))
afterAll(() => rmSync(folder, { recursive: true }))

const run = (program: string, args: string[], cwd = folder) => execFileSync(program, args, { cwd, encoding: 'utf8' })
const write = (file: string, text: string) => {
  mkdirSync(dirname(join(folder, file)), { recursive: true })
  writeFileSync(join(folder, file), text)
}

describe('the package of the client', () => {
  run('npm', ['pack', '--silent', '--pack-destination', folder], join(root, 'client'))
  const tarball = join(folder, readdirSync(folder).find((name) => name.endsWith('.tgz')) ?? '')

  test('holds what was built and what it says of itself', () => {
    const files = run('tar', ['-tzf', tarball]).trim().split('\n').toSorted()
    expect(files).toEqual(
      ['README.md', 'dist/api.d.ts', 'dist/api.js', 'dist/index.d.ts', 'dist/index.js', 'package.json'].map(
        (file) => `package/${file}`,
      ),
    )
  })

  test('is found right by publint and attw', () => {
    expect(run(join(bin, 'publint'), [tarball, '--strict'])).toContain('All good')
    expect(() => run(join(bin, 'attw'), [tarball, '--profile', 'esm-only'])).not.toThrow()
  })

  test(`is at most ${most} bytes of a Vite app, gzipped, and imports without a window`, () => {
    write('app/package.json', '{ "name": "app", "private": true, "type": "module" }')
    write('app/index.html', '<script type="module" src="/main.ts"></script>')
    // No code of Vite's own.
    write('app/vite.config.js', 'export default { build: { modulePreload: { polyfill: false } } }')
    write(
      'app/main.ts',
      "import { createClient } from '@latchkey/client'\nObject.assign(globalThis, { createClient })\n",
    )
    write(
      'app/node.js',
      `import { createClient, LatchkeyError } from '@latchkey/client'
       const client = createClient({ url: 'http://localhost' })
       const code = await client.signIn({ username: 'a', password: 'b' }).catch((error) => error instanceof LatchkeyError && error.code)
       console.log(client.getSnapshot().status, code)`,
    )
    const app = join(folder, 'app')
    run('npm', ['install', '--silent', '--no-audit', '--no-fund', tarball, 'vite@8'], app)
    run('npx', ['vite', 'build', '--logLevel', 'error'], app)
    const [bundle = ''] = readdirSync(join(app, 'dist/assets'))
    const { length } = gzipSync(readFileSync(join(app, 'dist/assets', bundle)), { level: 9 })
    console.log(`The client is ${length} bytes of a Vite app, gzipped.`)
    expect(length).toBeLessThanOrEqual(most)
    expect(run(process.execPath, ['node.js'], app)).toBe('signed_out no_window\n')
  })
})

import { execFile } from 'node:child_process'
import { symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { temporaryFolder } from '#test/support/process.ts'

const root = join(import.meta.dirname, '../..')

describe('the report of a test run', () => {
  test('lists the tests that passed only when they were tried again, and why', async () => {
    const folder = await temporaryFolder()
    await symlink(join(root, 'node_modules'), join(folder, 'node_modules'))
    await writeFile(
      join(folder, 'vitest.config.ts'),
      `import { retryReporter } from '${root}/test/support/retry-reporter.ts'
       export default { test: { retry: 1, reporters: [retryReporter] } }`,
    )
    await writeFile(
      join(folder, 'a.test.js'),
      `import { expect, test } from 'vitest'
       let tries = 0
       test('passes at once', () => {})
       test('passes the second time', () => expect(++tries).toBe(2))`,
    )
    const program = join(root, 'node_modules/vitest/vitest.mjs')
    const env = { PATH: process.env['PATH'] }
    const { stdout } = await promisify(execFile)(process.execPath, [program, 'run'], { cwd: folder, env })
    expect(stdout.trim().split('\n').slice(0, 3)).toEqual([
      'Failed once, passed when tried again: 1',
      '  a.test.js > passes the second time',
      expect.stringContaining('expected 1 to be 2'),
    ])
  })
})

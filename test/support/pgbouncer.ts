import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { databaseUrl } from './global-setup.ts'

export interface PgBouncer {
  /** The URL of a database behind it, with the user of the server. */
  readonly urlOf: (database: string) => string
  /** Where it tells of itself, such as `show pools`. */
  readonly consoleUrl: string
  /** Ends it at once, as a crash does. */
  readonly kill: () => Promise<void>
  /** On the same port again, after `kill`. */
  readonly start: () => Promise<void>
}

interface Options {
  /** A Postgres; any database of it can be reached. */
  readonly server: string
  /** A folder of its own, which exists. */
  readonly folder: string
  readonly port: number
  readonly settings: readonly string[]
  /** Who may log in beside the user of the server. */
  readonly users?: readonly string[]
}

/** The version of the PgBouncer on PATH, such as 1.24; `undefined` when there is none. */
export function pgBouncerVersion(): string | undefined {
  return /PgBouncer (\d+\.\d+)/.exec(spawnSync('pgbouncer', ['--version'], { encoding: 'utf8' }).stdout ?? '')?.[1]
}

/** Whether that version keeps prepared statements in transaction mode, as 1.21 and newer do. */
export function keepsStatements(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major > 1 || minor >= 21
}

/** Starts the PgBouncer on PATH with the settings that docs/operations.md asks for, and those given. */
export async function startPgBouncer({ server, folder, port, settings, users = [] }: Options): Promise<PgBouncer> {
  const target = new URL(server)
  const host = target.searchParams.get('host') ?? target.hostname
  const [file, logins] = [join(folder, 'pgbouncer.ini'), join(folder, 'users.txt')]
  await writeFile(logins, [target.username, ...users].map((user) => `"${user}" ""\n`).join(''))
  await writeFile(
    file,
    `[databases]
* = host=${host} port=${target.port || 5432}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${logins}
admin_users = ${target.username}
ignore_startup_parameters = statement_timeout,lock_timeout
server_login_retry = 1
${settings.join('\n')}
`,
  )
  // It does not run as root, and has to get to the socket.
  const owner = await stat(host.startsWith('/') ? host : folder)
  const [uid, gid] = owner.uid === 0 ? [65_534, 65_534] : [owner.uid, owner.gid]
  for (const path of [folder, logins, file]) {
    await chown(path, uid, gid)
    await chmod(path, 0o755)
  }
  let child: ChildProcess
  const start = async () => {
    const started = spawn('pgbouncer', [file], { uid, gid, stdio: ['ignore', 'ignore', 'pipe'] })
    child = started
    let output = ''
    for await (const line of started.stderr) if ((output += String(line)).includes('process up')) return
    throw new Error(output)
  }
  await start()
  target.searchParams.delete('host')
  target.hostname = '127.0.0.1'
  target.port = String(port)
  return {
    urlOf: (database) => databaseUrl(target.href, database),
    consoleUrl: databaseUrl(target.href, 'pgbouncer'),
    start,
    kill: async () => {
      child.kill('SIGKILL')
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    },
  }
}

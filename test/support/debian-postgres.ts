import { execFile, execFileSync } from 'node:child_process'
import { chownSync, existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { databaseUrl } from './global-setup.ts'

const programs = '/usr/lib/postgresql/15/bin'

/** Why Debian's PostgreSQL 15 cannot run here; `undefined` when it can. */
export function lacksDebianPostgres(): string | undefined {
  return existsSync(join(programs, 'initdb')) ? undefined : 'there is no PostgreSQL 15 of Debian'
}

export interface DebianPostgres {
  /** As its superuser. */
  readonly url: string
  readonly urlOf: (database: string) => string
  /** `fast` ends every connection, `immediate` is a crash. */
  readonly stop: (mode: 'fast' | 'immediate') => Promise<void>
  readonly start: () => Promise<void>
}

/** Starts Debian's PostgreSQL 15 in a new folder, which only its socket in there leads to; as root it runs as `postgres`. */
export async function startDebianPostgres(folder: string): Promise<DebianPostgres> {
  mkdirSync(folder)
  const idOf = (option: string) => Number(execFileSync('id', [option, 'postgres'], { encoding: 'utf8' }))
  const owner = process.getuid?.() === 0 ? { uid: idOf('-u'), gid: idOf('-g') } : undefined
  if (owner) chownSync(folder, owner.uid, owner.gid)
  const run = async (program: string, ...options: string[]) => {
    await promisify(execFile)(join(programs, program), options, { ...owner, cwd: folder })
  }
  const data = `--pgdata=${join(folder, 'data')}`
  const settings = `-k ${folder} -c listen_addresses='' -c fsync=off -c max_connections=600`
  const start = () => run('pg_ctl', data, '--wait', `--log=${join(folder, 'log')}`, `--options=${settings}`, 'start')
  await run('initdb', data, '--username=postgres', '--auth=trust', '--encoding=UTF8', '--locale=C')
  await start()
  const url = `postgres://postgres@localhost/postgres?host=${folder}`
  return {
    url,
    urlOf: (database) => databaseUrl(url, database),
    start,
    stop: (mode) => run('pg_ctl', data, `--mode=${mode}`, 'stop'),
  }
}

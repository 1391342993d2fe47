import { renameSync, readdirSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { EmbeddedPostgresError } from './error.ts'
import { ownFolder, remove } from './files.ts'
import type { Place } from './place.ts'
import { runWatched } from './program.ts'

const initdbOptions = ['--username=latchkey', '--auth-local=trust', '--auth-host=reject', '--encoding=UTF8']
const localeOptions = ['--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--data-checksums']

/** Makes the cluster beside its place and renames it, so that a crash leaves nothing half-made. */
export async function initialise(place: Place, settings: Readonly<Record<string, string>>): Promise<void> {
  const { dataDir, native, owner } = place
  const removeHalves = () => {
    const isHalf = (name: string) => name.startsWith(`${basename(dataDir)}.new-`)
    for (const name of readdirSync(dirname(dataDir)).filter(isHalf)) remove(join(dirname(dataDir), name))
  }
  removeHalves()
  const half = ownFolder(`${dataDir}.new-`, owner)
  // Data that may be lost when the machine stops need not be on the disk from the first.
  const sync = settings['fsync'] === 'off' ? ['--no-sync'] : []
  const args = ['--pgdata', half, ...initdbOptions, ...localeOptions, ...sync, '--no-instructions']
  const { child, exited } = runWatched([join(native, 'bin', 'initdb'), ...args], place, half)
  const said = await exited
  if (child.exitCode === 0) {
    renameSync(half, dataDir)
    // Once more: an attempt that was killed may have gone on writing for a moment.
    return removeHalves()
  }
  remove(half)
  throw new EmbeddedPostgresError(`The embedded Postgres could not be made; set DATABASE_URL. It said: ${said}`)
}

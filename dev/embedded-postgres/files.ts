import { chownSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { spawnSync } from 'node:child_process'

/** As whom Postgres runs when we are root, which it refuses to be. */
export interface Owner {
  readonly uid: number
  readonly gid: number
}

/** Makes a folder whose name begins so, closed to everybody but its owner. */
export function ownFolder(prefix: string, owner: Owner | undefined): string {
  const folder = mkdtempSync(prefix)
  if (owner) chownSync(folder, owner.uid, owner.gid)
  return folder
}

/** Whose the data are that exist already, unless they are root's. */
export function ownerOf(folder: string): Owner | undefined {
  const { uid, gid } = statSync(folder, { throwIfNoEntry: false }) ?? { uid: 0, gid: 0 }
  return uid === 0 ? undefined : { uid, gid }
}

/** Removes a folder into which somebody who is ending may still write. */
export function remove(folder: string): void {
  rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 25 })
}

/** The content of a file, or nothing when it cannot be read. */
export function read(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

/** What a command prints, or nothing when it cannot be run. */
export function run(command: string, args: string[]): string {
  return spawnSync(command, args, { encoding: 'utf8' }).stdout ?? ''
}

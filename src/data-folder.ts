import { randomBytes } from 'node:crypto'
import { mkdirSync, statSync } from 'node:fs'
import { link, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { StartError } from './start-error.ts'

/** The folder of the development default cannot be used; says which path is at fault, and why. */
export class DataFolderError extends StartError {}

const reasons: Record<string, string> = {
  EACCES: 'this user may not use it',
  EPERM: 'this user may not use it',
  EROFS: 'the file system is read-only',
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  EEXIST: 'a file is in its place',
  ENOENT: 'there can be no folder',
  ENOTDIR: 'a file is in its place',
  EISDIR: 'it is a folder',
  EIO: 'the disk has a fault',
}

/** What a fault of the file system means, in words, or `undefined` if it is none that we know. */
export function reasonOf(error: unknown): string | undefined {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return reasons[code]
}

/** Makes a folder and those above it; throws `DataFolderError`. */
export function makeFolder(folder: string): void {
  try {
    make(folder)
  } catch (error) {
    throw asFolderError(folder, error)
  }
}

/** One by one, because Node's `recursive` never ends below /proc. */
function make(folder: string): void {
  const found = statSync(folder, { throwIfNoEntry: false })
  if (found?.isDirectory() === true) return
  if (found) throw new DataFolderError(`${folder} is a file; set DATA_DIR.`)
  make(dirname(folder))
  try {
    mkdirSync(folder, { mode: 0o755 })
  } catch (error) {
    // Another start may have been faster.
    if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) throw error
  }
}

/** The key in the file, which is made when it is new and readable for its owner only; throws `DataFolderError`. */
export async function keptSecretKey(file: string): Promise<string> {
  try {
    const secret = (await readIfThere(file)) ?? (await newSecretKey(file))
    if (Buffer.byteLength(secret) >= 32) return secret
  } catch (error) {
    throw asFolderError(file, error)
  }
  throw new DataFolderError(
    `${file} holds no key of 32 bytes or more; put the key back, or remove the file and a new key is made.`,
  )
}

/** Written beside its place and linked, so that nobody reads half a key and no crash leaves one behind. */
async function newSecretKey(file: string): Promise<string> {
  const half = `${file}.new-${randomBytes(6).toString('hex')}`
  try {
    await writeFile(half, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600, flag: 'wx', flush: true })
    await link(half, file)
  } catch (error) {
    // Another start may have been faster: then its key counts.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    await rm(half, { force: true })
  }
  return (await readFile(file, 'utf8')).trim()
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return (await readFile(file, 'utf8')).trim()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

function asFolderError(path: string, error: unknown): unknown {
  const reason = reasonOf(error)
  if (error instanceof DataFolderError)
    return error.message.startsWith(path) ? error : new DataFolderError(`${path}: ${error.message}`)
  return reason === undefined ? error : new DataFolderError(`${path}: ${reason}; set DATA_DIR.`)
}

import { createHash, randomUUID } from 'node:crypto'
import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, readlinkSync, realpathSync } from 'node:fs'
import { rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline/promises'
import { EmbeddedPostgresError } from './error.ts'
import { read, remove } from './files.ts'
import { lock } from './lock.ts'

/** For what has to leave a closed folder, which the user cannot pass whom Postgres runs as. */
const home = '/var/lib/latchkey'

/**
 * Where the data are that belong at `path`: there, or where a link leads that is made when the way there `isClosed`.
 * Asks (or without a terminal refuses) when the link was removed and the data it led to are still there.
 */
export async function dataElsewhere(path: string, isClosed: () => boolean): Promise<string> {
  if (!isLink(path) && !existsSync(path)) await findAgain(path)
  if (isLink(path)) return linked(path)
  if (existsSync(path) || !isClosed()) return path
  link(path, newPlace(path))
  return linked(path)
}

/** Makes the folder for what cannot stay where it was wanted. */
export function openHome(): string {
  mkdirSync(home, { recursive: true })
  chmodSync(home, 0o755)
  return home
}

/** A short name for a text. */
export function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12)
}

function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true
}

/** Follows a link; one of ours is noted on both sides, so that its loss can be seen and the data be found. */
function linked(path: string): string {
  const target = readlinkSync(path)
  if (dirname(target) !== home) return realpathSync(path)
  const other = read(recordOf(target))
  if (other !== path && isLink(other) && readlinkSync(other) === target)
    throw new EmbeddedPostgresError(
      `${path} is a copy of ${other}, and both lead to the data in ${target}; remove ${path} to begin with new data.`,
    )
  openHome()
  writeFileSync(recordOf(target), path)
  writeFileSync(
    join(dirname(path), 'WHERE-THE-DATA-ARE.txt'),
    `The database of this folder is in ${target}, because the user whom Postgres runs as
cannot pass a closed folder above this one. To delete the data, remove that folder, too:

  rm -rf ${target}
`,
  )
  return target
}

function link(path: string, target: string): void {
  try {
    symlinkSync(target, path)
  } catch (error) {
    // Another start may have been faster: then its link counts.
    if (!isLink(path)) throw error
  }
}

/** The path of the link, noted beside the data. */
function recordOf(target: string): string {
  return `${target}.link`
}

function newPlace(path: string): string {
  const place = join(openHome(), `data-${digest(path)}`)
  // A folder that has been moved takes its data along, and their place keeps the name.
  return existsSync(place) ? `${place}-${randomUUID().slice(0, 8)}` : place
}

/** Finds data whose link was at `path`, and asks what becomes of them; the first versions made neither link nor note. */
async function findAgain(path: string): Promise<void> {
  const older = join(home, `data-${digest(path)}`)
  if (existsSync(older) && !existsSync(recordOf(older))) return link(path, older)
  const names = existsSync(home) ? readdirSync(home) : []
  const target = names
    .filter((name) => name.endsWith('.link'))
    .map((name) => join(home, name.slice(0, -'.link'.length)))
    .find((target) => existsSync(target) && read(recordOf(target)) === path)
  if (target !== undefined) await decide(target, path)
}

/** What becomes of data that have lost their link is for a person to say. */
async function decide(target: string, path: string): Promise<void> {
  const found = `The data of ${path} are still in ${target}, but what led to them was removed.`
  if (!process.stdin.isTTY)
    throw new EmbeddedPostgresError(
      `${found} To go on with them, run \`ln -s ${target} '${path}'\`; to begin anew, run \`rm -rf ${target}\`.`,
    )
  const answer = await ask(`${found}\nType "use" to go on with them, "delete" to delete them for good, or else stop: `)
  if (answer === 'use') return link(path, target)
  if (answer !== 'delete') throw new EmbeddedPostgresError('Stopped; nothing was changed.')
  const unlock = lock(target, path)
  remove(target)
  rmSync(recordOf(target))
  unlock()
}

async function ask(question: string): Promise<string> {
  process.stderr.write(question)
  const lines = createInterface({ input: process.stdin, terminal: false })
  for await (const line of lines) {
    lines.close()
    return line.trim()
  }
  return ''
}

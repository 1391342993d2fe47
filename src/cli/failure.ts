/** What is wrong with the command line (exit code 2). */
export class UsageError extends Error {}

/** What went wrong, in words for the person at the terminal (exit code 1). */
export class Failure extends Error {}

/** The code of an error of Node, Postgres or a library; empty when it has none. */
export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}

const faultsOfFiles: Readonly<Record<string, string>> = {
  EACCES: 'this user may not',
  EEXIST: 'it exists already',
  EISDIR: 'it is a folder',
  ENOENT: 'there is no such file or folder',
  ENOSPC: 'the disk is full',
  ENOTDIR: 'a part of its path is no folder',
  EROFS: 'the file system is read-only',
}

/** What is wrong with a file, as a `Failure`; an error without a code as it is. */
export function fileFault(file: string, act: 'read' | 'written', error: unknown): unknown {
  const code = codeOf(error)
  return code === '' ? error : new Failure(`${file} cannot be ${act}: ${faultsOfFiles[code] ?? code}.`)
}

const faultsOfDatabases: Readonly<Record<string, string>> = {
  '53100': 'its disk is full',
  '57014': 'it ended a statement that took too long',
  '57P01': 'it was shut down',
  CONNECTION_CLOSED: 'the connection was lost',
  DEADLINE_PASSED: 'it does not answer any more',
}

/** What the database had against a statement, without its words, which may hold what is stored. */
export function databaseFault(error: unknown, consequence: string): unknown {
  const code = codeOf(error)
  if (code === '') return error
  return new Failure(`The database failed: ${faultsOfDatabases[code] ?? code}. ${consequence}`)
}

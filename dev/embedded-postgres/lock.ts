import { writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { EmbeddedPostgresError } from './error.ts'
import { read } from './files.ts'

/**
 * Keeps other services off the data until the function is called that it returns; throws `EmbeddedPostgresError`. A
 * lock of SQLite is the only one in Node which the system drops however the process ends.
 */
export function lock(dataDir: string, wanted: string): () => void {
  // A process that was just killed frees its memory before its files.
  const held = new DatabaseSync(`${dataDir}.lock`, { open: false, timeout: 500 })
  try {
    held.open()
    held.exec('begin exclusive')
  } catch (error) {
    if (held.isOpen) held.close()
    throw refusal(error, dataDir, wanted)
  }
  writeFileSync(`${dataDir}.pid`, String(process.pid))
  return () => held.isOpen && held.close()
}

function refusal(error: unknown, dataDir: string, wanted: string): EmbeddedPostgresError {
  const { errcode, errstr } = error as { errcode?: number; errstr?: string }
  return new EmbeddedPostgresError(
    errcode === 5
      ? `Another Latchkey runs on ${wanted} (process ${read(`${dataDir}.pid`)}); stop it or set DATA_DIR.`
      : `${dirname(wanted)} cannot be written to (${errstr}); set DATA_DIR.`,
  )
}

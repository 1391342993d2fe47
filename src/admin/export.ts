import { createWriteStream } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { exportLines } from '#src/db/bulk.ts'
import { type Command, Failure, requireSchema, shell, UsageError } from './command.ts'

/** `export [FILE|-]`: writes every user with the password hash as JSON lines; a file is readable for its owner only. */
export const exportUsers: Command = async ({ config }, args) => {
  const [file = '-', ...rest] = args
  if (rest.length > 0 || (file.startsWith('-') && file !== '-')) throw new UsageError('export [FILE|-]')
  await requireSchema(config)
  const lines = Readable.from(exportLines(config.databaseUrl, shell))
  try {
    if (file === '-') await pipeline(lines, process.stdout, { end: false })
    else await pipeline(lines, createWriteStream(file, { mode: 0o600, flags: 'wx' }))
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'EPIPE') return ''
    if (code === 'EEXIST') throw new Failure(`${file} exists already.`)
    if (code === 'ENOENT' || code === 'EACCES' || code === 'EISDIR')
      throw new Failure(`${file} cannot be written: ${code}`)
    throw error
  }
  return file === '-' ? '' : `The users are in ${file}; it holds their password hashes.`
}

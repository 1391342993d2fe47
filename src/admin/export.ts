import { createWriteStream } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { exportLines } from '#src/db/bulk.ts'
import { command } from './command.ts'
import { requireSchema } from './database.ts'
import { codeOf, databaseFault, Failure, fileFault } from './failure.ts'

export const exportUsers = command({
  name: 'export',
  operands: ['[FILE|-]'],
  says: 'Writes every user with the password hash as JSON lines that import reads; only the owner may read the file.',
  run: async ({ config }, [file = '-']) => {
    await requireSchema(config)
    const lines = Readable.from(users(config.databaseUrl))
    try {
      if (file === '-') await pipeline(lines, process.stdout, { end: false })
      else await pipeline(lines, createWriteStream(file, { mode: 0o600, flags: 'wx' }))
    } catch (error) {
      // Whoever read it, such as head, has had enough.
      if (codeOf(error) === 'EPIPE') return ''
      throw error instanceof Failure ? error : fileFault(file === '-' ? 'Standard output' : file, 'written', error)
    }
    return file === '-' ? '' : `The users are in ${file}; it holds their password hashes.`
  },
})

async function* users(databaseUrl: string): AsyncGenerator<string, void, undefined> {
  try {
    yield* exportLines(databaseUrl)
  } catch (error) {
    throw databaseFault(error, 'The export is not complete.')
  }
}

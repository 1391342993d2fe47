import { exportLines } from '#src/db/bulk.ts'
import { command } from './command.ts'
import { requireSchema } from './database.ts'
import { shell } from './core.ts'
import { databaseFault } from './failure.ts'
import { writeAll } from './output.ts'

export const exportUsers = command({
  name: 'export',
  operands: ['[FILE|-]'],
  says: 'Writes every user with the password hash as JSON lines that import reads; only the owner may read the file.',
  run: async ({ config }, [file = '-']) => {
    await requireSchema(config)
    await writeAll(users(config.databaseUrl), file)
    return file === '-' ? '' : `The users are in ${file}; it holds their password hashes.`
  },
})

async function* users(databaseUrl: string): AsyncGenerator<string, void, undefined> {
  try {
    yield* exportLines(databaseUrl, shell)
  } catch (error) {
    throw databaseFault(error, 'The export is not complete.')
  }
}

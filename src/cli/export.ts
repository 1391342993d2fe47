import { exportLines } from '#src/features/accounts/bulk.ts'
import type { Context } from './command.ts'
import { requireSchema } from './database.ts'
import { shell } from './core.ts'
import { databaseFault } from './failure.ts'
import { writeAll } from './output.ts'

export async function exportUsers(
  { config, io }: Context,
  [file = '-']: readonly [string | undefined],
): Promise<string> {
  await requireSchema(config)
  await writeAll(users(config.database.url), file, io)
  return file === '-' ? '' : `The users are in ${file}; it holds their password hashes.`
}

async function* users(databaseUrl: string): AsyncGenerator<string, void, undefined> {
  try {
    yield* exportLines(databaseUrl, shell)
  } catch (error) {
    throw databaseFault(error, 'The export is not complete.')
  }
}

import { globSync } from 'node:fs'
import { join } from 'node:path'

const source = join(import.meta.dirname, '..')

/** What each statement is called: the name under which its `*.sql.ts` exports it. */
export async function statementNames(): Promise<ReadonlyMap<unknown, string>> {
  const names = new Map<unknown, string>()
  for (const file of globSync('**/*.sql.ts', { cwd: source })) {
    const exported = (await import(join(source, file))) as Record<string, unknown>
    for (const [name, value] of Object.entries(exported)) names.set(value, name)
  }
  return names
}

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { onDatabase } from './process.ts'

/** Runs `src/admin.ts` in a process of its own, as `npm run admin` does; resolves when it has ended. */
export async function runAdmin(
  databaseUrl: string,
  args: readonly string[],
  input = '',
  environment: Record<string, string> = {},
) {
  const env = { PATH: process.env['PATH'] ?? '', ...onDatabase(databaseUrl), ...environment }
  const child = spawn(process.execPath, [join(process.cwd(), 'src/admin.ts'), ...args], { env, stdio: 'pipe' })
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  return { code: code as number | null, stdout, stderr }
}

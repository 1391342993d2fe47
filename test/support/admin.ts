import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { bare, onDatabase } from './process.ts'

/** A program that does not end by itself has failed. */
const patience = { timeout: 50_000, killSignal: 'SIGKILL' } as const

const adminProgram = join(process.cwd(), 'src/admin.ts')

interface Surroundings {
  readonly environment?: Record<string, string>
  readonly cwd?: string
  /** File descriptor for standard output, instead of a pipe. */
  readonly stdout?: number
}

/** Runs `src/admin.ts` in a process of its own, as `npm run admin` does; resolves when it has ended. */
export function runAdmin(databaseUrl: string, args: readonly string[], input = '', surroundings: Surroundings = {}) {
  const { environment = {}, ...options } = surroundings
  return runNode([adminProgram, ...args], input, {
    environment: { ...onDatabase(databaseUrl), ...environment },
    ...options,
  })
}

/** As `runAdmin`, on a terminal of its own (util-linux' `script`); `shown` is what the terminal shows. */
export async function runOnTerminal(databaseUrl: string, args: readonly string[], typed: string) {
  const command = [process.execPath, adminProgram, ...args].map((word) => `'${word}'`).join(' ')
  const env = { ...bare, ...onDatabase(databaseUrl) }
  const child = spawn('script', ['-qefc', command, '/dev/null'], {
    env,
    stdio: ['pipe', 'pipe', 'ignore'],
    ...patience,
  })
  let shown = ''
  child.stdout.on('data', (chunk: Buffer) => {
    // Whoever types before the question shows what is typed.
    if (shown === '') child.stdin.write(typed)
    shown += chunk.toString()
  })
  const [code] = await once(child, 'close')
  return { code: code as number | null, shown }
}

/** Runs Node with the given environment and no other; resolves when it has ended. */
export async function runNode(args: readonly string[], input = '', { environment, cwd, stdout }: Surroundings = {}) {
  const env = { ...bare, ...environment }
  const child = spawn(process.execPath, args, {
    env,
    cwd: cwd ?? process.cwd(),
    stdio: ['pipe', stdout ?? 'pipe', 'pipe'],
    ...patience,
  })
  child.stdin?.on('error', () => {})
  child.stdin?.end(input)
  const [printed, stderr, [code]] = await Promise.all([
    child.stdout ? text(child.stdout) : '',
    text(child.stderr as NodeJS.ReadableStream),
    once(child, 'close'),
  ])
  return { code: code as number | null, stdout: printed, stderr }
}

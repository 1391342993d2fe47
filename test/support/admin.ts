import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { runCommand } from '#src/cli/run-command.ts'
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

/** Obeys a command line of `npm run admin` in this process, at no terminal; resolves to what a process would leave. */
export async function runAdmin(
  databaseUrl: string,
  args: readonly string[],
  input = '',
  environment: Record<string, string> = {},
) {
  const stdin = Readable.from(pieces(Buffer.from(input)), { objectMode: false })
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const printed = Promise.all([text(stdout), text(stderr)])
  const variables = { ...onDatabase(databaseUrl), ...environment }
  const code = await runCommand(args, variables, { stdin, stdout, stderr }).finally(() => {
    stdout.end()
    stderr.end()
  })
  const [out, err] = await printed
  return { code, stdout: out, stderr: err }
}

/** As a pipe passes them on. */
function* pieces(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += 1 << 16) yield bytes.subarray(at, at + (1 << 16))
}

/** As `runAdmin`, in a process of its own as `npm run admin` starts it; resolves when it has ended by itself. */
export function runAdminProcess(
  databaseUrl: string,
  args: readonly string[],
  input = '',
  surroundings: Surroundings = {},
) {
  const { environment = {}, ...options } = surroundings
  return runNode([adminProgram, ...args], input, {
    environment: { ...onDatabase(databaseUrl), ...environment },
    ...options,
  })
}

/** As `runAdminProcess`, on a terminal of its own (util-linux' `script`); `shown` is what the terminal shows. */
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

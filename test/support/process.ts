import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { cleanUp } from './clean-up.ts'
import { secretKey } from './service.ts'

/** The real server in a process of its own. */
export interface ServerProcess {
  readonly child: ChildProcess
  /** Where it listens, such as `http://127.0.0.1:41234`; rejects with what it printed when it does not start. */
  readonly listening: Promise<string>
  /** Resolves to the exit code, or the signal, and all output. */
  readonly exited: Promise<{ code: number | string | null; output: string }>
}

/** The environment of a program: no more than it takes to find others, and what was compiled for the last one. */
export const bare = { PATH: process.env['PATH'] ?? '', NODE_COMPILE_CACHE: join(tmpdir(), 'latchkey-compiled') }

/** Starts `src/server.ts` on a free port as `npm start` does, with the given environment and no other. */
export function startServer(environment: Record<string, string>, cwd = process.cwd()): ServerProcess {
  const program = join(process.cwd(), 'src/server.ts')
  const env = { ...bare, PORT: '0', RATE_LIMITS: 'off', ...environment }
  return followServer(spawn(process.execPath, [program], { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] }))
}

/** Reads from the output of a process when and where the service in it listens. */
export function followServer(child: ChildProcessByStdio<Writable | null, Readable, Readable>): ServerProcess {
  let output = ''
  const listening = Promise.withResolvers<string>()
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString()
      const address = /Server listening at (http:[\w./:[\]]+)[^\w]/.exec(output)?.[1]
      if (address !== undefined) listening.resolve(address)
    })
  const exited = once(child, 'close').then(([code, signal]) => {
    listening.reject(new Error(output))
    return { code: (code ?? signal) as number | string | null, output }
  })
  listening.promise.catch(() => {})
  cleanUp(async () => {
    child.kill('SIGKILL')
    await exited
  })
  return { child, listening: listening.promise, exited }
}

/** The environment of a server on a database that is there already. */
export function onDatabase(url: string): Record<string, string> {
  return { DATABASE_URL: url, SECRET_KEY: secretKey, SWEEP: 'off' }
}

/** A new folder, removed when the test or its file ends. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'latchkey-test-'))
  // As root, Postgres runs as another user, who has to get through.
  await chmod(folder, 0o755)
  cleanUp(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** A port that nobody listened on a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  return port
}

/** Sends JSON; resolves to the status and the body, or to status 0 when no answer came. */
export async function send(url: string, body?: object, headers: Record<string, string> = {}) {
  const request: RequestInit = body
    ? { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json', ...headers } }
    : { headers }
  try {
    const reply = await fetch(url, { ...request, signal: AbortSignal.timeout(10_000) })
    return { status: reply.status, body: (await reply.json().catch(() => ({}))) as Record<string, unknown> }
  } catch {
    return { status: 0, body: {} as Record<string, unknown> }
  }
}

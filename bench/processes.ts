import { type ChildProcess, fork, spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { connectAlone } from '#src/db/connect-alone.ts'
import { migrateDatabase } from '#src/db/migrate.ts'
import { startEmbeddedPostgres } from '#dev/embedded-postgres/embedded-postgres.ts'
import type { LimitSettings } from './limits.ts'
import type { Job, Load } from './load.ts'

export const poolSize = 10

const root = new URL('..', import.meta.url).pathname

const undo: Array<() => unknown> = []

/** Ends whatever was started, last first. */
export async function stopEverything(): Promise<void> {
  for (let step = undo.pop(); step; step = undo.pop()) await step()
}

/** A Postgres for this run alone, as it comes, with fsync; resolves to the URL of a database on it. */
export async function startPostgres(): Promise<(name: string) => Promise<string>> {
  const server = process.env['BENCH_DATABASE_URL'] ?? (await startEmbedded())
  return async (name) => {
    const admin = connectAlone(server)
    await admin.unsafe(`create database ${name}`)
    undo.push(async () => {
      await admin.unsafe(`drop database ${name} with (force)`)
      await admin.end()
    })
    const url = new URL(server)
    url.pathname = `/${name}`
    await migrateDatabase(url.href)
    return url.href
  }
}

async function startEmbedded(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'latchkey-bench-'))
  undo.push(() => rm(folder, { recursive: true, force: true }))
  // As root, Postgres runs as another user, who has to get through.
  await chmod(folder, 0o755)
  const { url, stop } = await startEmbeddedPostgres({ dataDir: join(folder, 'postgres') })
  undo.push(stop)
  return url
}

export interface ServiceProcess {
  readonly pid: number
  readonly base: string
  /** Milliseconds from the start of the process to the first 200 of `/ready`. */
  readonly readyMs: number
  /** Resident memory now, in MB. */
  readonly memory: () => number
  readonly stop: () => Promise<void>
}

interface StartOptions {
  readonly port?: number
  readonly environment?: Readonly<Record<string, string>>
  /** What stands before the program: a program that starts it, or flags. It says by a message when all of it listens. */
  readonly before?: readonly string[]
}

/** The service as `npm start` runs it in production, its log going to /dev/null. */
export async function startService(databaseUrl: string, options: StartOptions = {}): Promise<ServiceProcess> {
  const port = options.port ?? (await freePort())
  const base = `http://127.0.0.1:${port}`
  const env = {
    PATH: process.env['PATH'] ?? '',
    ENVIRONMENT: 'production',
    PUBLIC_URL: base,
    PORT: String(port),
    DATABASE_URL: databaseUrl,
    DATABASE_POOL_SIZE: String(poolSize),
    SECRET_KEY: randomBytes(32).toString('hex'),
    RATE_LIMITS: 'off',
    METRICS: 'open',
    NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'] ?? '',
    ...options.environment,
  }
  const started = performance.now()
  const args = startArguments().toSpliced(-1, 0, ...(options.before ?? []))
  const stdio = ['ignore', 'ignore', 'inherit', ...(options.before ? (['ipc'] as const) : [])] as const
  const child = spawn(process.execPath, args, { env, cwd: root, stdio: [...stdio] })
  const stop = endsWith(child, 'SIGTERM')
  if (options.before) await once(child, 'message')
  while (!(await isReady(base))) {
    if (child.exitCode !== null) throw new Error('the service did not start')
    await setTimeout(5)
  }
  return { pid: child.pid ?? 0, base, readyMs: performance.now() - started, memory: () => memoryOf(child.pid), stop }
}

/** The bare counterparts in a process of their own; resolves to their address. */
export async function startLimits(settings: LimitSettings): Promise<string> {
  const child = fork(new URL('limits.ts', import.meta.url))
  endsWith(child)
  return `http://127.0.0.1:${await ask<number>(child, settings)}`
}

/** A collector of traces in a process of its own; resolves to its address. */
export async function startCollector(): Promise<string> {
  const child = fork(new URL('collector.ts', import.meta.url))
  endsWith(child)
  return `http://127.0.0.1:${await ask<number>(child, {})}`
}

/** Runs one job in a process of its own. */
export async function runLoad(job: Job): Promise<Load> {
  const child = fork(new URL('load.ts', import.meta.url))
  const stop = endsWith(child)
  const load = await ask<Load>(child, job)
  await stop()
  if (load.failed > 0) process.stderr.write(`${job.route}: ${load.failed} answers not 200, last ${load.lastFailure}\n`)
  return load
}

/** Whether a program can be found. */
export function isInstalled(program: string): boolean {
  return spawnSync(program, ['--version']).status === 0
}

async function ask<Answer>(child: ChildProcess, question: object): Promise<Answer> {
  child.send(question)
  const ended = once(child, 'exit').then(([code]) => Promise.reject(new Error(`a process ended with ${String(code)}`)))
  const [answer] = await Promise.race([once(child, 'message'), ended])
  return answer as Answer
}

function endsWith(child: ChildProcess, signal: NodeJS.Signals = 'SIGKILL'): () => Promise<void> {
  const exited = once(child, 'exit')
  const kill = () => child.kill(signal)
  process.once('exit', kill)
  const stop = async () => {
    kill()
    await exited
    process.off('exit', kill)
  }
  undo.push(stop)
  return stop
}

/** What `npm start` gives to Node, without the file of settings. */
function startArguments(): string[] {
  const [, line = ''] = /^exec "\$node" (.*) "\$@"$/m.exec(readFileSync(join(root, 'src/service.sh'), 'utf8')) ?? []
  return line.split(' ').filter((argument) => argument !== '$env_file')
}

async function isReady(base: string): Promise<boolean> {
  try {
    return (await fetch(`${base}/ready`)).status === 200
  } catch {
    return false
  }
}

function memoryOf(pid: number | undefined): number {
  const [, kilobytes] = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
  return Number(kilobytes) / 1024
}

/** A port that nobody listened on a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  return typeof address === 'object' && address !== null ? address.port : 0
}

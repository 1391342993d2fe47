import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { EmbeddedPostgresError } from './error.ts'
import { read } from './files.ts'
import type { Place } from './place.ts'

/** A process under a watchdog. */
export interface Program {
  readonly child: ChildProcess
  /** Resolves when it is gone, to the last of what it said. */
  readonly exited: Promise<string>
}

/**
 * Ends a program when descriptor 3 closes, which it does however the parent dies; ends itself when the program does. It
 * tells it every second: one that has only begun to run ignores what it is told.
 */
const watchdog = `
  folder=$1; shift
  "$@" 3<&- & program=$!
  { read -r _ <&3; while kill -INT $program; do sleep 1; done; } 2>/dev/null & reader=$!
  wait $program; status=$?
  kill $reader 2>/dev/null
  rmdir "$folder" 2>/dev/null
  exit $status`

/** Runs a program under the watchdog, which in the end removes the folder if it is empty. */
export function runWatched(command: string[], { dataDir, owner }: Place, folder: string): Program {
  const logFile = `${dataDir}.log`
  const log = openSync(logFile, 'w', 0o600)
  try {
    const child = spawn('/bin/sh', ['-c', watchdog, 'watchdog', folder, ...command], {
      ...owner,
      stdio: ['ignore', log, log, 'pipe'],
      // A group of its own: Ctrl-C is for the service, which stops Postgres when it has drained.
      detached: true,
      cwd: '/',
      // Neither our secrets nor PGPORT and its like.
      env: {},
    })
    const lastWords = () => read(logFile).trim().split('\n').slice(-3).join(' ')
    return { child, exited: once(child, 'exit').then(lastWords, String) }
  } catch (error) {
    // A root without CAP_SETUID cannot become another user.
    throw new EmbeddedPostgresError(`The embedded Postgres cannot be run (${String(error)}); set DATABASE_URL.`)
  } finally {
    closeSync(log)
  }
}

/** Stops a program and waits until it is gone. */
export async function end({ child, exited }: Program): Promise<void> {
  child.stdio[3]?.destroy()
  await exited
}

/** Whether the program runs. */
export function isRunning({ child }: Program): boolean {
  return child.pid !== undefined && child.exitCode === null && child.signalCode === null
}

import { setTimeout } from 'node:timers/promises'
import { end } from './program.ts'
import type { Server } from './server.ts'

/** A server that has run for so long has all tries before it again. */
const steadyMs = 60_000

/** Where the supervisor says what happens. */
export interface Report {
  readonly warn: (sentence: string) => void
  readonly error: (sentence: string) => void
}

/**
 * Starts the server again whenever it ends, after each of the pauses, until `signal` is aborted or every try has failed;
 * resolves when no server runs any more.
 */
export async function superviseServer(
  first: Server,
  startAgain: () => Promise<Server>,
  { signal, report, pausesMs }: { signal: AbortSignal; report: Report; pausesMs: readonly number[] },
): Promise<void> {
  let server: Server | undefined = first
  let pauses = [...pausesMs]
  signal.addEventListener('abort', () => void (server && end(server)))
  while (server) {
    if (signal.aborted) return end(server)
    const started = performance.now()
    await server.exited
    // A watchdog that was killed has left its server, which goes when the pipe is closed.
    await end(server)
    if (signal.aborted) return
    if (performance.now() - started > steadyMs) pauses = [...pausesMs]
    report.warn('the embedded Postgres has ended and is started again')
    server = await nextServer()
  }

  async function nextServer(): Promise<Server | undefined> {
    for (let pause = pauses.shift(); pause !== undefined; pause = pauses.shift())
      try {
        await setTimeout(pause, undefined, { signal })
        return await startAgain()
      } catch (error) {
        if (signal.aborted) return undefined
        report.warn(error instanceof Error ? error.message : String(error))
      }
    report.error('the embedded Postgres does not stay up and is not tried again; start the service again')
    return undefined
  }
}

import { setTimeout } from 'node:timers/promises'
import closeWithGrace from 'close-with-grace'
import type { FastifyBaseLogger } from 'fastify'
import { buildApp } from './app.ts'
import { readConfig } from './config.ts'
import { followConnections } from './drain.ts'
import { describeError } from './describe-error.ts'
import { completeConfig, type CompleteConfig } from './complete-config.ts'

const signals = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'] as const
/** Npm passes on a signal that the terminal or the supervisor has sent to the whole group already. */
const sameSignalMs = 1000
/** For the answers that are under way and everything that has to be closed, before the process exits anyway. */
const closeMs = 8000

let completed: CompleteConfig | undefined
try {
  completed = await completeConfig(readConfig(process.env))
  await serve(completed)
} catch (error) {
  await completed?.embedded?.stop()
  process.stderr.write(`${describeError(error)}\n`)
  process.exit(1)
}

async function serve({ config, embedded }: CompleteConfig): Promise<void> {
  const app = await buildApp(config)
  embedded?.reportTo({ warn: (sentence) => app.log.warn(sentence), error: (sentence) => app.log.error(sentence) })
  const drain = followConnections(app.server)
  const drainMs = config.service.drainSeconds * 1000
  const { close } = closeWithGrace(
    { delay: drainMs + closeMs, logger: app.log, skip: [...signals] },
    async ({ err }) => {
      if (err) app.log.error({ err }, 'closing after an error')
      app.startDraining()
      // Load balancers see /ready fail before connections are refused.
      // Who is in doubt about itself does not go on for long.
      await setTimeout(err ? Math.min(drainMs, 1000) : drainMs)
      await drain()
      await app.close()
      await embedded?.stop()
    },
  )
  onSignals(close, app.log)
  const address = await app.listen({ host: config.service.host, port: config.service.port })
  if (!embedded) return
  process.stdout.write(`
  Latchkey listens on ${address}
  API documentation   ${config.routes.docs ? `${address}/docs` : 'off (DOCS)'}
  Data                ${embedded.dataDir}

  This is the development default: an embedded Postgres and a key of its own.
  For production set ENVIRONMENT=production, DATABASE_URL, SECRET_KEY and PUBLIC_URL.

`)
}

/** The first signal closes; one that comes more than a second later exits at once. */
function onSignals(close: () => void, log: FastifyBaseLogger): void {
  let first: number | undefined
  const onSignal = (signal: string) => {
    const now = performance.now()
    if (first === undefined) {
      first = now
      close()
    } else if (now - first > sameSignalMs) {
      log.error(`second ${signal}, exiting`)
      process.exit(1)
    }
  }
  for (const signal of signals) process.on(signal, onSignal)
}

import { setTimeout } from 'node:timers/promises'
import closeWithGrace from 'close-with-grace'
import { buildApp } from './app.ts'
import { readConfig } from './config.ts'
import { explain } from './explain.ts'
import { settle, type Settled } from './settle.ts'

let settled: Settled | undefined
try {
  settled = await settle(readConfig(process.env))
  await serve(settled)
} catch (error) {
  await settled?.embedded?.stop()
  process.stderr.write(`${explain(error)}\n`)
  process.exit(1)
}

async function serve({ config, embedded }: Settled): Promise<void> {
  const app = await buildApp(config)
  embedded?.reportTo({ warn: (sentence) => app.log.warn(sentence), error: (sentence) => app.log.error(sentence) })
  // A second signal while the first is being served exits at once.
  closeWithGrace({ delay: 9000, logger: app.log }, async ({ err }) => {
    if (err) app.log.error({ err }, 'closing after an error')
    app.leave()
    // Load balancers see /ready fail before connections are refused.
    if (config.production) await setTimeout(1000)
    await app.close()
    await embedded?.stop()
  })
  const address = await app.listen({ host: config.host, port: config.port })
  if (!embedded) return
  process.stdout.write(`
  Latchkey listens on ${address}
  API documentation   ${config.docs ? `${address}/docs` : 'off (DOCS)'}
  Data                ${embedded.dataDir}

  This is the development default: an embedded Postgres and a key of its own.
  For production set ENVIRONMENT=production, DATABASE_URL, SECRET_KEY and PUBLIC_URL.

`)
}

import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '#src/config.ts'
import type { Budget } from '#src/db/budget.ts'
import type { Follow } from '#src/db/database.ts'
import { StartError } from '#src/start-error.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** `undefined` when nothing is traced. */
    traces: Traces | undefined
  }
}

export interface Traces {
  /** Lets the statements on this budget be part of the trace of the request. */
  readonly join: (request: FastifyRequest, budget: Budget) => void
  readonly follow: Follow
}

/** One trace for each request, with its statements, to `OTEL_EXPORTER_OTLP_ENDPOINT`; without it nothing is loaded. */
export default fp<Config['traces']>(
  async (app, { endpoint, ...options }) => {
    app.decorate('traces', endpoint === undefined ? undefined : await startTraces(app, { endpoint, ...options }))
  },
  { name: 'traces', dependencies: ['errors'] },
)

async function startTraces(app: FastifyInstance, options: Config['traces'] & { endpoint: string }): Promise<Traces> {
  const { traceRequests } = await loadPackages()
  return traceRequests(app, options)
}

async function loadPackages() {
  try {
    return await import('./opentelemetry.ts')
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && /^(ERR_)?MODULE_NOT_FOUND$/.test(String(error.code))))
      throw error
    throw new StartError(
      'OTEL_EXPORTER_OTLP_ENDPOINT is set, but the packages for traces are not installed; run `npm run install:traces`, or leave it out.',
      { cause: error },
    )
  }
}

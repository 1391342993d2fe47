import type { FastifyReply, FastifyRequest, FastifyServerOptions } from 'fastify'
import { pino } from 'pino'
import { addressOf } from './address.ts'
import type { Config } from './config.ts'

/** JSON lines (on a terminal: readable ones) without secrets: of a request only method and route; of a driver's error only its code. */
export function loggerOptions({
  logLevel,
}: Pick<Config['service'], 'logLevel'>): NonNullable<FastifyServerOptions['logger']> {
  return {
    level: logLevel,
    // Lines are written together, at most 100 ms late: one write each costs more than signing a token.
    ...(process.stdout.isTTY ? { transport: { target: 'pino-pretty' } } : { stream: batched() }),
    redact: ['password', 'token', 'refresh_token', 'access_token', 'authorization', 'cookie'],
    serializers: {
      err: (error) => describe(error) as never,
    },
  }
}

const batched = () => pino.destination({ dest: 1, sync: false, minLength: 4096, periodicFlush: 100 })

/** One line per request; the route's pattern instead of the path, which may hold a token; without a route what the path tells. */
export function logRequests(request: FastifyRequest, reply: FastifyReply, done: () => void): void {
  const { method, routeOptions } = request
  const ms = Math.round(reply.elapsedTime * 10) / 10
  const ip = addressOf(request)
  const unknown = request.is404 ? { path: readablePath(request.url) } : {}
  request.log.info(
    { method, route: routeOptions.url ?? 'unknown', ...unknown, status: reply.statusCode, ms, ip },
    'request',
  )
  done()
}

/** Without the query, and `*` for each part that could be a token, an address or more than one line. */
function readablePath(url: string): string {
  const [path = ''] = url.split('?')
  const parts = path.split('/').map((part) => (/^(?!lk[ro]_|eyJ)[\w.~-]{0,32}$/.test(part) ? part : '*'))
  return parts.join('/').slice(0, 200)
}

function describe(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  // Messages and details of Postgres hold the values of a row, of Drizzle the parameters.
  if (error.name === 'PostgresError' || 'query' in error) {
    const { code, table_name: table, constraint_name: constraint, routine } = error as Error & Record<string, unknown>
    return { type: error.name, code, table, constraint, routine }
  }
  return { type: error.name, message: error.message, stack: error.stack }
}

import { Type } from 'typebox'
import { group, oneOf, setting, text, whole } from './settings.ts'

/** The process: its kind, where it listens, what it logs, where it keeps what the environment leaves out. */
export const serviceSettings = group(
  {
    production: setting('ENVIRONMENT', oneOf(['development', 'production'], 'development'), {
      says: '`development` or `production`; production requires `DATABASE_URL`, `SECRET_KEY` and `PUBLIC_URL`',
      read: (value) => value === 'production',
    }),
    debug: setting('DEBUG', Type.Unsafe<boolean>({ type: 'boolean', default: false }), {
      says: '`true`: log level debug',
    }),
    logLevel: setting('LOG_LEVEL', oneOf(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], 'info'), {
      says: '`fatal`, `error`, `warn`, `info`, `debug`, `trace`, `silent`',
    }),
    host: setting('HOST', text('127.0.0.1'), { says: 'address to listen on; the image sets `0.0.0.0`' }),
    port: setting('PORT', whole(0, 65_535, 8000), { says: 'port to listen on; 0: a free one' }),
    drainSeconds: setting(
      'DRAIN_SECONDS',
      Type.Unsafe<number | undefined>({ type: 'integer', minimum: 0, maximum: 300 }),
      {
        says: 'seconds after a signal in which connections are still accepted while `/ready` fails',
        without: '`1` in production, else `0`',
      },
    ),
    dataDir: setting('DATA_DIR', text('.data'), { says: 'where the embedded PostgreSQL and the development key live' }),
  },
  ({ debug, logLevel, drainSeconds, ...rest }) => ({
    ...rest,
    logLevel: debug ? ('debug' as const) : logLevel,
    drainSeconds: drainSeconds ?? (rest.production ? 1 : 0),
  }),
)

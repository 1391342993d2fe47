import { isIP } from 'node:net'
import { group, howToMakeOne, optional, setting, switchedOn, whole } from '#src/settings.ts'
import { databaseUrlFault } from '#src/urls.ts'

/** The database, by its URL or by its parts. */
export const databaseSettings = group(
  {
    /** `undefined`: the embedded Postgres in `DATA_DIR`. */
    url: setting('DATABASE_URL', optional(), {
      says: '`postgres://user:password@host:port/database?sslmode=verify-full`; of several hosts, `h1:5432,h2:5432`, the primary is used',
      without: 'embedded PostgreSQL',
      secret: true,
      fault: databaseUrlFault,
    }),
    host: setting('DB_HOST', optional('^(/.*|[A-Za-z0-9._:-]+)$'), {
      says: 'this and the next four stand in for `DATABASE_URL`, without TLS: host',
      without: '`localhost` if another is set',
    }),
    port: setting('DB_PORT', whole(1, 65_535, 5432), { says: 'port' }),
    user: setting('DB_USER', optional(), { says: 'user', without: '`postgres`' }),
    password: setting('DB_PASSWORD', optional(), {
      says: 'password',
      example: howToMakeOne,
      secret: true,
    }),
    name: setting('DB_NAME', optional(), { says: 'database', without: '`postgres`' }),
    poolSize: setting('DATABASE_POOL_SIZE', whole(1, 200, 10), {
      says: 'connections for the requests of one instance, at most; `/ready` has one more',
    }),
    migrate: switchedOn('DATABASE_MIGRATE', { says: '`off`: only check the schema at the start, never change it' }),
  },
  ({ url: given, poolSize, migrate, ...parts }, { production, faults }) => {
    const url = given ?? urlOf(parts)
    if (production && url === undefined)
      faults.push('DATABASE_URL: is required in production; the embedded Postgres is for development')
    return { url, poolSize, migrate }
  },
)

interface Parts {
  readonly host: string | undefined
  readonly port: number
  readonly user: string | undefined
  readonly password: string | undefined
  readonly name: string | undefined
}

function urlOf({ host = '', port, user, password, name }: Parts): string | undefined {
  if (!host && !user && !password && !name) return undefined
  const url = new URL('postgres://localhost')
  if (host.startsWith('/')) url.searchParams.set('host', host)
  else if (host) url.hostname = isIP(host) === 6 ? `[${host}]` : host
  url.port = String(port)
  url.username = encodeURIComponent(user ?? 'postgres')
  url.password = encodeURIComponent(password ?? '')
  url.pathname = encodeURIComponent(name ?? 'postgres')
  return url.href
}

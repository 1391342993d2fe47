import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { type Static, type TSchema, Type } from 'typebox'
import { Value } from 'typebox/value'
import { type Mount, readContracts } from '#src/contracts.ts'
import { publishedSecrets } from '#src/published-secrets.ts'
import { urlFaults } from '#src/urls.ts'

const oneOf = <const T extends string>(values: readonly T[], byDefault: T) =>
  Type.Unsafe<T>({ type: 'string', enum: values, default: byDefault })
const whole = (minimum: number, maximum: number, byDefault: number) =>
  Type.Integer({ minimum, maximum, default: byDefault })
const optional = (pattern?: string) => Type.Optional(Type.String(pattern === undefined ? {} : { pattern }))
const switchedOn = oneOf(['on', 'off'], 'on')

/** Every environment variable that the service reads. */
export const Environment = Type.Object({
  ENVIRONMENT: oneOf(['development', 'production'], 'development'),
  DEBUG: Type.Boolean({ default: false }),
  HOST: Type.String({ default: '127.0.0.1' }),
  PORT: whole(0, 65_535, 8000),
  PUBLIC_URL: optional(),
  CONTRACTS: Type.String({ default: 'kanban,oauth' }),
  DATA_DIR: Type.String({ default: '.data' }),
  DATABASE_URL: optional(),
  DB_HOST: optional('^(/.*|[A-Za-z0-9._:-]+)$'),
  DB_PORT: whole(1, 65_535, 5432),
  DB_USER: optional(),
  DB_PASSWORD: optional(),
  DB_NAME: optional(),
  DATABASE_POOL_SIZE: whole(1, 200, 10),
  DATABASE_MIGRATE: switchedOn,
  SECRET_KEY: optional(),
  SECRET_KEY_PREVIOUS: optional(),
  ALGORITHM: oneOf(['HS256', 'ES256', 'EdDSA', 'RS256'], 'HS256'),
  SIGNING_KEY_ROTATE_DAYS: whole(0, 3650, 0),
  OAUTH_CLIENTS: optional('^[A-Za-z0-9._-]+:[^\\s:,]{16,}(,[A-Za-z0-9._-]+:[^\\s:,]{16,})*$'),
  SERVICE_NAME: Type.String({ default: 'Latchkey' }),
  SMTP_URL: optional(),
  MAIL_FROM: optional('^[^\\s<>@]+@[^\\s<>@]+$'),
  PASSWORD_RESET_URL: optional(),
  EMAIL_VERIFY_URL: optional(),
  REQUIRE_VERIFIED_EMAIL: oneOf(['off', 'login'], 'off'),
  MAIL_WORKER: switchedOn,
  JWT_AUDIENCE: Type.String({ default: 'latchkey' }),
  ACCESS_TOKEN_EXPIRE_MINUTES: whole(1, 1440, 30),
  REFRESH_TOKEN_EXPIRE_DAYS: whole(1, 365, 7),
  SESSION_EXPIRE_DAYS: whole(1, 365, 30),
  REFRESH_GRACE_SECONDS: whole(0, 60, 10),
  REFRESH_LATE_RETRIES: whole(0, 10, 1),
  SESSIONS_PER_USER: whole(1, 10_000, 100),
  ARGON2_MEMORY_KIB: whole(19_456, 1_048_576, 19_456),
  ARGON2_TIME_COST: whole(2, 20, 2),
  UV_THREADPOOL_SIZE: whole(1, 1024, 4),
  RATE_LIMITS: switchedOn,
  LIMIT_REQUESTS_PER_MINUTE: whole(1, 1_000_000, 3000),
  LIMIT_LOGINS_PER_MINUTE: whole(1, 1_000_000, 50),
  LIMIT_REFRESHES_PER_MINUTE: whole(1, 1_000_000, 300),
  LIMIT_CHECKS_PER_MINUTE: whole(1, 1_000_000, 60_000),
  REDIS_URL: optional(),
  TRUSTED_PROXIES: optional(),
  CORS_ORIGINS: optional(),
  HSTS: Type.Optional(Type.Unsafe<'on' | 'off'>({ type: 'string', enum: ['on', 'off'] })),
  DOCS: switchedOn,
  METRICS: oneOf(['on', 'open', 'off'], 'on'),
  METRICS_TOKEN: optional('^[A-Za-z0-9._~+/=-]{16,}$'),
  RETENTION_DAYS: whole(1, 3650, 7),
  AUDIT_RETENTION_DAYS: whole(1, 3650, 365),
  SWEEP: switchedOn,
  LOG_LEVEL: oneOf(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], 'info'),
})

/** Variables that may hold a secret can also be read from the file that `<NAME>_FILE` names. */
export const secretNames = [
  'SECRET_KEY',
  'SECRET_KEY_PREVIOUS',
  'DATABASE_URL',
  'DB_PASSWORD',
  'REDIS_URL',
  'METRICS_TOKEN',
  'SMTP_URL',
  'OAUTH_CLIENTS',
] as const

type Settings = Static<typeof Environment>
type Variables = Record<string, string | undefined>

export interface Config {
  readonly production: boolean
  readonly host: string
  readonly port: number
  readonly publicUrl: string | undefined
  readonly contracts: readonly Mount[]
  readonly dataDir: string
  /** `undefined`: the embedded Postgres in `dataDir`. */
  readonly databaseUrl: string | undefined
  readonly databasePoolSize: number
  readonly databaseMigrate: boolean
  /** `undefined`: the key that is made and kept in `dataDir`. */
  readonly secretKey: string | undefined
  readonly secretKeyPrevious: string | undefined
  readonly algorithm: Settings['ALGORITHM']
  /** Days after which a signing key is replaced by itself; 0: never. */
  readonly signingKeyRotateDays: number
  /** Client id → secret, for introspection. */
  readonly oauthClients: ReadonlyMap<string, string>
  readonly serviceName: string
  readonly smtpUrl: string | undefined
  readonly mailFrom: string
  /** `undefined`: the service's own pages. */
  readonly passwordResetUrl: string | undefined
  readonly emailVerifyUrl: string | undefined
  readonly requireVerifiedEmail: boolean
  /** Whether this process sends what the outbox holds. */
  readonly mailWorker: boolean
  readonly jwtAudience: string
  readonly accessTokenSeconds: number
  readonly refreshTokenSeconds: number
  readonly sessionSeconds: number
  readonly refreshGraceSeconds: number
  readonly refreshLateRetries: number
  readonly sessionsPerUser: number
  /** With the number of libuv's threads, on which hashes are computed. */
  readonly argon2: { readonly memoryCost: number; readonly timeCost: number; readonly threads: number }
  readonly rateLimits: boolean
  /** Limits that a deployment sets: of an address or session, of an address, of a client or session. */
  readonly perMinute: Readonly<Record<'requests' | 'logins' | 'refreshes' | 'checks', number>>
  readonly redisUrl: string | undefined
  readonly trustedProxies: readonly string[]
  readonly corsOrigins: readonly string[]
  readonly hsts: boolean
  readonly docs: boolean
  /** `on`: behind the token, without one nobody reads them. */
  readonly metrics: Settings['METRICS']
  readonly metricsToken: string | undefined
  readonly retentionDays: number
  readonly auditRetentionDays: number
  readonly sweep: boolean
  readonly logLevel: Settings['LOG_LEVEL']
  /** Settings that are allowed and yet deserve a word in the log. */
  readonly warnings: readonly string[]
}

export class ConfigError extends Error {
  constructor(faults: readonly string[]) {
    super(`The settings cannot be used:\n${faults.map((fault) => `  ${fault}`).join('\n')}`)
  }
}

/** Reads the environment into a frozen `Config`; throws one `ConfigError` that lists every fault and echoes no value. */
export function readConfig(variables: Variables): Config {
  const faults: string[] = []
  const warnings: string[] = []
  const settings = settingsOf(fromFiles(variables, faults), faults)

  const production = settings.ENVIRONMENT === 'production'
  const databaseUrl = settings.DATABASE_URL ?? databaseUrlOf(settings)
  const trustedProxies = listOf(settings.TRUSTED_PROXIES)

  faults.push(...urlFaults(settings))
  if (production && databaseUrl === undefined)
    faults.push('DATABASE_URL: is required in production; the embedded Postgres is for development')
  if (databaseUrl !== undefined && settings.SECRET_KEY === undefined)
    faults.push('SECRET_KEY: is required with a database of your own; for example the output of `openssl rand -hex 32`')
  if (production && settings.PUBLIC_URL === undefined)
    faults.push('PUBLIC_URL: is required in production; it is the issuer of every token')
  for (const name of ['SECRET_KEY', 'SECRET_KEY_PREVIOUS'] as const) {
    const weakness = weaknessOf(settings[name])
    if (weakness !== undefined) (production ? faults : warnings).push(`${name}: ${weakness}`)
  }
  if (!trustedProxies.every(isCidr))
    faults.push('TRUSTED_PROXIES: must be a comma-separated list of addresses in CIDR notation, such as 10.0.0.0/8')
  if (settings.SMTP_URL !== undefined && settings.MAIL_FROM === undefined)
    faults.push('MAIL_FROM: is required with SMTP_URL; it is the address that mail comes from')
  if (settings.METRICS === 'open' && settings.METRICS_TOKEN !== undefined)
    faults.push('METRICS_TOKEN: is never asked for with METRICS=open; leave one of them out')
  if (production && settings.METRICS === 'on' && settings.METRICS_TOKEN === undefined)
    warnings.push('METRICS_TOKEN: is not set; /metrics answers 401 to all. Set it, or METRICS to open or off')
  if (production && settings.SMTP_URL === undefined) warnings.push('SMTP_URL: is not set; mail is kept, but not sent')
  // libuv has read the variable before us, and takes no number for one thread.
  const isOneThread = variables['UV_THREADPOOL_SIZE'] === ''
  if (isOneThread) warnings.push('UV_THREADPOOL_SIZE: is empty, so one thread does all work; unset it or give a number')
  if (settings.RATE_LIMITS === 'off') warnings.push('RATE_LIMITS: are off; passwords can be guessed without a limit')
  const contracts = readContracts(settings.CONTRACTS, faults)
  if (faults.length > 0) throw new ConfigError(faults)

  return Object.freeze<Config>({
    production,
    host: settings.HOST,
    port: settings.PORT,
    publicUrl: settings.PUBLIC_URL,
    contracts,
    dataDir: settings.DATA_DIR,
    databaseUrl,
    databasePoolSize: settings.DATABASE_POOL_SIZE,
    databaseMigrate: settings.DATABASE_MIGRATE === 'on',
    secretKey: settings.SECRET_KEY,
    secretKeyPrevious: settings.SECRET_KEY_PREVIOUS,
    algorithm: settings.ALGORITHM,
    signingKeyRotateDays: settings.SIGNING_KEY_ROTATE_DAYS,
    oauthClients: new Map(listOf(settings.OAUTH_CLIENTS).map((pair) => pair.split(':', 2) as [string, string])),
    serviceName: settings.SERVICE_NAME,
    smtpUrl: settings.SMTP_URL,
    mailFrom: settings.MAIL_FROM ?? 'latchkey@localhost',
    passwordResetUrl: settings.PASSWORD_RESET_URL,
    emailVerifyUrl: settings.EMAIL_VERIFY_URL,
    requireVerifiedEmail: settings.REQUIRE_VERIFIED_EMAIL === 'login',
    mailWorker: settings.MAIL_WORKER === 'on',
    jwtAudience: settings.JWT_AUDIENCE,
    accessTokenSeconds: settings.ACCESS_TOKEN_EXPIRE_MINUTES * 60,
    refreshTokenSeconds: settings.REFRESH_TOKEN_EXPIRE_DAYS * 86_400,
    sessionSeconds: settings.SESSION_EXPIRE_DAYS * 86_400,
    refreshGraceSeconds: settings.REFRESH_GRACE_SECONDS,
    refreshLateRetries: settings.REFRESH_LATE_RETRIES,
    sessionsPerUser: settings.SESSIONS_PER_USER,
    argon2: {
      memoryCost: settings.ARGON2_MEMORY_KIB,
      timeCost: settings.ARGON2_TIME_COST,
      threads: isOneThread ? 1 : settings.UV_THREADPOOL_SIZE,
    },
    rateLimits: settings.RATE_LIMITS === 'on',
    perMinute: {
      requests: settings.LIMIT_REQUESTS_PER_MINUTE,
      logins: settings.LIMIT_LOGINS_PER_MINUTE,
      refreshes: settings.LIMIT_REFRESHES_PER_MINUTE,
      checks: settings.LIMIT_CHECKS_PER_MINUTE,
    },
    redisUrl: settings.REDIS_URL,
    trustedProxies,
    corsOrigins: listOf(settings.CORS_ORIGINS),
    hsts: settings.HSTS === undefined ? production : settings.HSTS === 'on',
    docs: settings.DOCS === 'on',
    metrics:
      settings.METRICS === 'on' && !production && settings.METRICS_TOKEN === undefined ? 'open' : settings.METRICS,
    metricsToken: settings.METRICS_TOKEN,
    retentionDays: settings.RETENTION_DAYS,
    auditRetentionDays: settings.AUDIT_RETENTION_DAYS,
    sweep: settings.SWEEP === 'on',
    logLevel: settings.DEBUG ? 'debug' : settings.LOG_LEVEL,
    warnings,
  })
}

function fromFiles(variables: Variables, faults: string[]): Variables {
  const result: Variables = { ...variables, SECRET_KEY: variables['SECRET_KEY'] || variables['JWT_SECRET'] }
  for (const name of secretNames) {
    const file = variables[`${name}_FILE`]
    if (!file) continue
    if (result[name]) faults.push(`${name}: is given twice, as itself and as ${name}_FILE`)
    try {
      result[name] = readFileSync(file, 'utf8').trimEnd()
    } catch {
      faults.push(`${name}_FILE: the file cannot be read`)
    }
  }
  return result
}

/** What was set and the defaults; a value with a fault stays as it is, so that the rules go on to find the others. */
function settingsOf(variables: Variables, faults: string[]): Settings {
  const settings: Record<string, unknown> = {}
  for (const [name, schema] of Object.entries<TSchema>(Environment.properties)) {
    const text = variables[name]
    const value = text ? read(schema, text) : Reflect.get(schema, 'default')
    if (value !== undefined) settings[name] = value
    if (text && !Value.Check(schema, value)) faults.push(`${name}: ${expectationOf(schema)}`)
  }
  return settings as Settings
}

function read(schema: TSchema, text: string): unknown {
  const type: unknown = Reflect.get(schema, 'type')
  if (type === 'integer') return /^\d{1,9}$/.test(text) ? Number(text) : text
  if (type === 'boolean') return { true: true, '1': true, false: false, '0': false }[text.toLowerCase()] ?? text
  return text
}

function expectationOf(schema: TSchema): string {
  const { type, minimum, maximum, pattern, enum: values } = schema as Record<string, unknown>
  if (type === 'integer') return `must be a whole number from ${String(minimum)} to ${String(maximum)}`
  if (type === 'boolean') return 'must be true or false'
  if (Array.isArray(values)) return `must be one of ${values.join(', ')}`
  return `must match ${String(pattern)}`
}

function databaseUrlOf(settings: Settings): string | undefined {
  if (!settings.DB_HOST && !settings.DB_USER && !settings.DB_PASSWORD && !settings.DB_NAME) return undefined
  const url = new URL('postgres://localhost')
  const host = settings.DB_HOST ?? 'localhost'
  if (host.startsWith('/')) url.searchParams.set('host', host)
  else url.hostname = isIP(host) === 6 ? `[${host}]` : host
  url.port = String(settings.DB_PORT)
  url.username = encodeURIComponent(settings.DB_USER ?? 'postgres')
  url.password = encodeURIComponent(settings.DB_PASSWORD ?? '')
  url.pathname = encodeURIComponent(settings.DB_NAME ?? 'postgres')
  return url.href
}

/** RFC 7518 §3.2: an HS256 key has at least the size of the hash output, 256 bits. */
function weaknessOf(secret: string | undefined): string | undefined {
  if (secret === undefined) return undefined
  if (Buffer.byteLength(secret) < 32) return 'is shorter than 32 bytes'
  if (publishedSecrets.has(secret) || new Set(secret).size < 8)
    return 'has been published or is too simple; make one with `openssl rand -hex 32`'
  return undefined
}

function listOf(text: string | undefined): string[] {
  return (text ?? '').split(',').flatMap((item) => item.trim() || [])
}

function isCidr(text: string): boolean {
  const [address = '', bits, ...rest] = text.split('/')
  const width = { 4: 32, 6: 128 }[isIP(address)]
  if (width === undefined || rest.length > 0) return false
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) > 0 && Number(bits) <= width)
}

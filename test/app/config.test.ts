import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { readConfig, settings } from '#src/config.ts'
import { temporaryFolder } from '#test/support/process.ts'

const secret = 'a-key-for-tests-0123456789-abcdefghijklmnop'
const production = {
  ENVIRONMENT: 'production',
  DATABASE_URL: 'postgres://u:p@db/latchkey',
  PUBLIC_URL: 'https://auth.example.com',
  SECRET_KEY: secret,
  SMTP_URL: 'smtps://mail.example.com',
  MAIL_FROM: 'auth@example.com',
  METRICS_TOKEN: 'a-token-for-prometheus',
}
const faultsOf = (variables: Record<string, string>) => {
  try {
    readConfig(variables)
    return ''
  } catch (error) {
    return error instanceof Error ? error.message : ''
  }
}

describe('the settings', () => {
  test('have a default for everything', () => {
    expect(readConfig({})).toMatchObject({
      service: { port: 8000, host: '127.0.0.1' },
      tokens: { accessTokenSeconds: 1800 },
      sessions: { refreshGraceSeconds: 10 },
    })
  })

  test('name every fault at once and echo no value', () => {
    const message = faultsOf({
      PORT: '80x',
      REFRESH_GRACE_SECONDS: '61',
      ALGORITHM: 'none',
      DATABASE_URL: 'mysql://root:hunter2@db',
    })
    for (const name of ['PORT', 'REFRESH_GRACE_SECONDS', 'ALGORITHM', 'DATABASE_URL'])
      expect(message).toContain(`${name}: `)
    expect(message).not.toMatch(/80x|61|hunter2|mysql:\/\/root/)
  })

  test.each([
    [{ ...production, SECRET_KEY: '' }, 'SECRET_KEY: is required'],
    [{ ...production, SECRET_KEY: 'your-secret-key-here' }, 'SECRET_KEY: is shorter than 32 bytes'],
    [{ ...production, SECRET_KEY: 'haunted97!' }, 'SECRET_KEY: is shorter than 32 bytes'],
    [{ ...production, SECRET_KEY: secret.slice(0, 31) }, 'SECRET_KEY: is shorter than 32 bytes'],
    [{ ...production, SECRET_KEY_PREVIOUS: secret.slice(0, 31) }, 'SECRET_KEY_PREVIOUS: is shorter than 32 bytes'],
    [{ ...production, SECRET_KEY: 'a'.repeat(40) }, 'SECRET_KEY: has been published or is too simple'],
    [
      { ...production, SECRET_KEY: '09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7' },
      'SECRET_KEY: has been published',
    ],
    [{ ...production, DATABASE_URL: '' }, 'DATABASE_URL: is required in production'],
    [{ ...production, PUBLIC_URL: '' }, 'PUBLIC_URL: is required in production'],
    [{ TRUSTED_PROXIES: 'true' }, 'TRUSTED_PROXIES: must be'],
    [{ TRUSTED_PROXIES: '1' }, 'TRUSTED_PROXIES: must be'],
    [{ TRUSTED_PROXIES: '0.0.0.0/0' }, 'TRUSTED_PROXIES: must be'],
    [
      { METRICS: 'open', METRICS_TOKEN: 'a-token-for-prometheus' },
      'METRICS_TOKEN: is never asked for with METRICS=open',
    ],
    [{ CORS_ORIGINS: '*' }, 'CORS_ORIGINS: must be'],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4318' }, 'OTEL_EXPORTER_OTLP_ENDPOINT: must be'],
    [{ OTEL_EXPORTER_OTLP_HEADERS: 'key' }, 'OTEL_EXPORTER_OTLP_HEADERS: must be'],
    [{ OTEL_EXPORTER_OTLP_HEADERS: 'key=%zz' }, 'OTEL_EXPORTER_OTLP_HEADERS: must be'],
    [{ OTEL_EXPORTER_OTLP_HEADERS: 'key=a%0Ab' }, 'OTEL_EXPORTER_OTLP_HEADERS: must be'],
    [{ OTEL_TRACES_SAMPLER: 'jaeger_remote' }, 'OTEL_TRACES_SAMPLER: must be one of'],
    [{ OTEL_TRACES_SAMPLER_ARG: '1.5' }, 'OTEL_TRACES_SAMPLER_ARG: must match'],
  ])('refuse %j', (variables, fault) => {
    expect(faultsOf(variables)).toContain(fault)
  })

  test('take the headers of a collector as OpenTelemetry writes them', () => {
    const { traces } = readConfig({
      OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Bearer%20a==, x-tenant = one',
      OTEL_TRACES_SAMPLER_ARG: '0.25',
    })
    expect(traces).toMatchObject({ headers: { authorization: 'Bearer a==', 'x-tenant': 'one' }, share: 0.25 })
  })

  test('are accepted in production when nothing is missing', () => {
    expect(readConfig(production)).toMatchObject({
      service: { production: true },
      network: { hsts: true },
      warnings: [],
    })
  })

  test.each([
    ['on', {}, 'open'],
    ['on', { METRICS_TOKEN: 'a-token-for-prometheus' }, 'on'],
    ['on', { ...production, METRICS_TOKEN: '' }, 'on'],
    ['open', { ...production, METRICS_TOKEN: '' }, 'open'],
    ['off', production, 'off'],
  ])('open /metrics by METRICS=%s with %j: %s', (METRICS, variables, access) => {
    expect(readConfig({ ...variables, METRICS })).toMatchObject({ metrics: { access } })
  })

  test('warn of metrics that nobody can read', () => {
    const { warnings } = readConfig({ ...production, METRICS_TOKEN: '' })
    expect(warnings).toEqual([expect.stringMatching(/^METRICS_TOKEN: is not set; \/metrics answers 401/)])
    expect(readConfig({ ...production, METRICS_TOKEN: '', METRICS: 'off' }).warnings).toEqual([])
  })

  test('take a key of 32 bytes', () => {
    expect(faultsOf({ ...production, SECRET_KEY: secret.slice(0, 32) })).toBe('')
  })

  test('may be those of the five services: JWT_SECRET and DB_*', () => {
    const config = readConfig({
      JWT_SECRET: secret,
      DB_HOST: 'db',
      DB_USER: 'app',
      DB_PASSWORD: 'p@ss/word',
      DB_NAME: 'auth_db',
    })
    expect([config.tokens.secretKey, config.database.url]).toEqual([
      secret,
      'postgres://app:p%40ss%2Fword@db:5432/auth_db',
    ])
    const percent = { JWT_SECRET: secret, DB_HOST: 'db', DB_PASSWORD: '100%41' }
    expect(readConfig(percent).database.url).toContain(':100%2541@')
    expect(readConfig({ JWT_SECRET: secret, DB_HOST: '/run/postgresql' }).database.url).toContain(
      '?host=%2Frun%2Fpostgresql',
    )
  })

  test('read a secret from the file that NAME_FILE names, and refuse one that is given twice', async () => {
    const file = join(await temporaryFolder(), 'key')
    await writeFile(file, `${secret}\n`)
    expect(readConfig({ SECRET_KEY_FILE: file }).tokens.secretKey).toBe(secret)
    expect(faultsOf({ SECRET_KEY_FILE: file, SECRET_KEY: secret })).toContain('SECRET_KEY: is given twice')
    expect(faultsOf({ SECRET_KEY_FILE: '/does/not/exist' })).toContain('SECRET_KEY_FILE: the file cannot be read')
  })

  test('are refused with every fault at once, whatever its kind', () => {
    const message = faultsOf({
      ENVIRONMENT: 'production',
      PORT: '80x',
      SECRET_KEY: 'haunted97!',
      REFRESH_GRACE_SECONDS: '61',
      TRUSTED_PROXIES: 'true',
      DB_PASSWORD_FILE: '/does/not/exist',
    })
    expect(message.split('\n').map((line) => line.trim().split(':')[0])).toEqual([
      'The settings cannot be used',
      'DB_PASSWORD_FILE',
      'PORT',
      'REFRESH_GRACE_SECONDS',
      'DATABASE_URL',
      'PUBLIC_URL',
      'SECRET_KEY',
      'TRUSTED_PROXIES',
    ])
    expect(message).not.toMatch(/haunted97!|80x|61|true/)
  })

  test('name a DATABASE_URL that is none, without showing it', () => {
    const message = faultsOf({ DATABASE_URL: 'postgres://app:pass/word@db/latchkey', SECRET_KEY: secret })
    expect(message).toContain('DATABASE_URL: must be a URL')
    expect(message).not.toContain('pass/word')
  })

  test.each([
    ['postgres://app@/latchkey?host=alpha,beta', 'names several hosts in ?host='],
    ['postgres://app@/latchkey?host=alpha%2Cbeta', 'names several hosts in ?host='],
    ['postgres://app:hunter2@alpha:5432,beta:port/latchkey', 'must be a URL such as'],
    ['postgres://app:hunter2@alpha,/latchkey', 'must be a URL such as'],
    ['postgres://alpha,beta/latchkey?target_session_attrs=read-write', 'takes no target_session_attrs but primary'],
    ['postgres://alpha/latchkey?target_session_attrs=standby', 'takes no target_session_attrs but primary'],
  ])('refuse %s in a sentence', (url, sentence) => {
    const message = faultsOf({ DATABASE_URL: url, SECRET_KEY: secret })
    expect(message).toContain(`DATABASE_URL: ${sentence}`)
    expect(message).not.toMatch(/hunter|alpha|beta/)
  })

  test.each([
    'postgres://app:hunter,2@alpha:5432,beta:5433/latchkey?target_session_attrs=primary',
    'postgresql://[2001:db8::1]:5432,beta',
  ])('take several hosts, as in %s', (url) => {
    expect(readConfig({ DATABASE_URL: url, SECRET_KEY: secret }).database.url).toBe(url)
  })

  test('take a comma in a password and in the path of a socket', () => {
    for (const url of ['postgres://app:pa,ss@db/latchkey', 'postgres://app@localhost/a?host=/run/a,b'])
      expect(readConfig({ DATABASE_URL: url, SECRET_KEY: secret }).database.url).toBe(url)
  })

  test.each([
    ['DATABASE_URL', 'postgres://app:100%@db/latchkey'],
    ['DATABASE_URL', 'db:5432'],
    ['PUBLIC_URL', 'https://auth.example.com:port'],
    ['PUBLIC_URL', 'https://auth.example.com/'],
    ['PUBLIC_URL', 'https://auth.example.com?x'],
    ['PUBLIC_URL', 'auth.example.com'],
    ['PASSWORD_RESET_URL', 'https://app:port/reset'],
    ['PASSWORD_RESET_URL', 'https://app:port/reset?token={token}'],
    ['PASSWORD_RESET_URL', 'javascript://app/%0a{token}'],
    ['EMAIL_VERIFY_URL', 'https://app:99999/verify#{token}'],
    ['EMAIL_VERIFY_URL', 'https://'],
    ['SMTP_URL', 'smtp://user:p/ss@mail:587'],
    ['SMTP_URL', 'smtp://user:100%@mail'],
    ['SMTP_URL', 'smtp://'],
    ['REDIS_URL', 'redis://:p/ss@redis'],
    ['REDIS_URL', 'redis://:100%@redis'],
    ['REDIS_URL', 'http://redis'],
    ['CORS_ORIGINS', 'https://app.example.com/'],
    ['CORS_ORIGINS', 'https://App.example.com'],
    ['CORS_ORIGINS', 'https://app.example.com:443'],
    ['CORS_ORIGINS', 'https://app.example.com,http://localhost:port'],
    ['CORS_ORIGINS', 'null'],
  ])('refuse a %s that could not be used later: %s', (name, url) => {
    const message = faultsOf({ SECRET_KEY: secret, MAIL_FROM: 'auth@example.com', [name]: url })
    expect(message.split('\n').slice(1)).toEqual([expect.stringMatching(`^  ${name}: must be `)])
  })

  test.each([
    ['PUBLIC_URL', 'https://example.com/auth'],
    ['PASSWORD_RESET_URL', 'https://app.example.com/#/reset/{token}'],
    ['PASSWORD_RESET_URL', 'http://localhost:3000/reset?next=/'],
    ['SMTP_URL', 'smtps://user%40example.com:p%2Fss@[::1]:465'],
    ['REDIS_URL', 'rediss://:p%2Fss@redis:6380/1'],
    ['REDIS_URL', 'redis://localhost'],
    ['CORS_ORIGINS', 'https://app.example.com, http://localhost:3000,http://[::1]:8080'],
  ])('take %s %s', (name, url) => {
    expect(faultsOf({ MAIL_FROM: 'auth@example.com', [name]: url })).toBe('')
  })

  test.each(['abc', '0', '1025', '2.5', ' '])('refuse %j as UV_THREADPOOL_SIZE', (text) => {
    expect(faultsOf({ UV_THREADPOOL_SIZE: text })).toContain(
      'UV_THREADPOOL_SIZE: must be a whole number from 1 to 1024',
    )
  })

  test('count as not set when they are empty, as a line of .env without a value is', () => {
    const secrets = settings.filter(({ secret }) => secret).map(({ name }) => `${name}_FILE`)
    const names = ['JWT_SECRET', ...settings.map(({ name }) => name), ...secrets]
    const empty = names.filter((name) => name !== 'UV_THREADPOOL_SIZE').map((name) => [name, ''])
    expect(readConfig(Object.fromEntries(empty))).toEqual(readConfig({}))
  })

  test('take an empty UV_THREADPOOL_SIZE for the one thread that it gives, with a warning', () => {
    const { passwords, warnings } = readConfig({ UV_THREADPOOL_SIZE: '' })
    expect([passwords.threads, warnings]).toEqual([1, [expect.stringContaining('UV_THREADPOOL_SIZE: is empty')]])
  })

  test.each([
    ['10.0.0.0/8', ['10.0.0.0/8']],
    ['127.0.0.1/32, ::1/128', ['127.0.0.1/32', '::1/128']],
    ['192.0.2.1', ['192.0.2.1']],
  ])('take %s as TRUSTED_PROXIES', (text, expected) => {
    expect(readConfig({ TRUSTED_PROXIES: text }).network.trustedProxies).toEqual(expected)
  })

  test.each(['10.0.0.0/33', '10.0.0/8', '::/0', 'loopback', '10.0.0.0/8/8', '10.0.0.0/', 'proxy.example.com', '0'])(
    'refuse %s as TRUSTED_PROXIES',
    (text) => {
      expect(faultsOf({ TRUSTED_PROXIES: text })).toContain('TRUSTED_PROXIES: must be')
    },
  )

  test('warn in development of what production would refuse', () => {
    const { warnings } = readConfig({ SECRET_KEY: 'haunted97!', RATE_LIMITS: 'off' })
    expect(warnings.map((warning) => warning.split(':')[0])).toEqual(['SECRET_KEY', 'RATE_LIMITS'])
    expect(warnings.join()).not.toContain('haunted97!')
  })

  test('cannot be changed once they are read', () => {
    expect(Object.isFrozen(readConfig({}))).toBe(true)
  })
})

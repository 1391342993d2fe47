import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { temporaryFolder } from '#test/support/process.ts'
import { startService } from '#test/support/service.ts'

const rules = readFileSync(new URL('../../deploy/prometheus/alerts.yaml', import.meta.url), 'utf8')
const alerts = [...rules.matchAll(/- alert: (\w+)/g)].map(([, name = '']) => name)
const noPromtool =
  spawnSync('promtool', ['--version']).error && 'skipped: there is no promtool (Debian: the package prometheus)'

/** Series and their values minute by minute, in Prometheus' own shorthand: `0+5x60` grows by 5 for 60 minutes. */
type Series = Record<string, string>
interface Case {
  readonly alert: string
  readonly when: string
  readonly series: Series
  /** The labels of the alerts that fire after an hour. */
  readonly fires: readonly Record<string, string>[]
}

const count = (route: string, status: number, values: string): Series => ({
  [`http_request_duration_seconds_count{method="POST",route="${route}",status_code="${status}"}`]: values,
})
const outcome = (metric: string, name: string, values: string): Series => ({ [`${metric}{outcome="${name}"}`]: values })
/** Six requests a minute that all took between the two bounds. */
const latency = (name: string, labels: string, [less, more]: readonly [string, string]): Series => ({
  [`${name}_bucket{${labels}le="${less}"}`]: '0x60',
  [`${name}_bucket{${labels}le="${more}"}`]: '0+6x60',
  [`${name}_bucket{${labels}le="+Inf"}`]: '0+6x60',
})
const requests = (method: string, route: string, bounds: readonly [string, string]) =>
  latency('http_request_duration_seconds', `method="${method}",route="${route}",status_code="200",`, bounds)
const firing = (alert: string, when: string, series: Series, labels: Record<string, string> = {}): Case => ({
  alert,
  when,
  series,
  fires: [labels],
})
const quiet = (alert: string, when: string, series: Series): Case => ({ alert, when, series, fires: [] })

const cases: Case[] = [
  firing('Down', 'it cannot be scraped', { 'up{job="latchkey"}': '0x60' }, { job: 'latchkey' }),
  firing('Down', 'nobody scrapes it', { 'up{job="another"}': '1x60' }, { job: 'latchkey' }),
  quiet('Down', 'it can', { 'up{job="latchkey"}': '1x60' }),

  firing('NotReady', 'the probes go on to fail', count('/ready', 503, '0+2x60')),
  quiet('NotReady', 'they failed while it closed', count('/ready', 503, '0x57 4x3')),

  firing('ServerErrors', 'one in fifty fails', {
    ...count('/auth/login', 200, '0+49x60'),
    ...count('/auth/login', 500, '0+1x60'),
  }),
  firing('ServerErrors', 'all fail, one a minute', count('/chat/token', 503, '0+1x60')),
  quiet('ServerErrors', 'one in a thousand fails', {
    ...count('/api/v1/me', 200, '0+1000x60'),
    ...count('/api/v1/me', 503, '0+1x60'),
  }),
  quiet('ServerErrors', 'only the probes fail', count('/ready', 503, '0+60x60')),

  quiet('SlowReads', 'each takes less than 250 ms', requests('GET', '/auth/me', ['0.1', '0.25'])),
  quiet('SlowReads', 'one was slow', {
    'http_request_duration_seconds_bucket{method="GET",route="/me",le="0.25"}': '0x60',
    'http_request_duration_seconds_bucket{method="GET",route="/me",le="+Inf"}': '0x45 1x15',
  }),
  quiet('SlowWrites', 'a login takes less than a second', requests('POST', '/oauth/token', ['0.5', '1'])),

  firing('LoginsFail', 'three a minute fail and none succeeds', {
    ...outcome('auth_logins_total', 'failed', '0+3x60'),
    ...outcome('auth_logins_total', 'succeeded', '0x60'),
  }),
  quiet('LoginsFail', 'one in five fails', {
    ...outcome('auth_logins_total', 'failed', '0+10x60'),
    ...outcome('auth_logins_total', 'succeeded', '0+40x60'),
  }),
  quiet('LoginsFail', 'one person forgot a password', {
    ...outcome('auth_logins_total', 'failed', '0x50 12x10'),
    ...outcome('auth_logins_total', 'succeeded', '0x60'),
  }),

  firing('RefreshTokenReused', 'six were', outcome('auth_refresh_total', 'reused', '0x55 6x5')),
  quiet('RefreshTokenReused', 'three were', outcome('auth_refresh_total', 'reused', '0x55 3x5')),

  firing('RefreshUnavailable', 'one in fifty is', {
    ...outcome('auth_refresh_total', 'unavailable', '0+1x60'),
    ...outcome('auth_refresh_total', 'rotated', '0+49x60'),
  }),
  quiet('RefreshUnavailable', 'none is', {
    ...outcome('auth_refresh_total', 'unavailable', '0x60'),
    ...outcome('auth_refresh_total', 'rotated', '0+49x60'),
  }),

  firing('PasswordQueue', 'each waits for two seconds', latency('auth_password_gate_wait_seconds', '', ['1', '2.5'])),
  quiet(
    'PasswordQueue',
    'each waits for half a second',
    latency('auth_password_gate_wait_seconds', '', ['0.25', '0.5']),
  ),

  firing('PasswordsRefused', 'some were', { auth_password_gate_refused_total: '0x55 8x5' }),
  quiet('PasswordsRefused', 'some were an hour ago', { auth_password_gate_refused_total: '8x60' }),

  firing('DatabaseQueue', 'twenty wait', { auth_database_statements_waiting: '20x60' }),
  quiet('DatabaseQueue', 'five wait', { auth_database_statements_waiting: '5x60' }),

  firing('EventLoopLate', 'it is 300 ms late', { nodejs_eventloop_lag_p99_seconds: '0.3x60' }),
  quiet('EventLoopLate', 'it is 20 ms late', { nodejs_eventloop_lag_p99_seconds: '0.02x60' }),

  firing('RedisAway', 'it is', { auth_redis_up: '0x60' }),
  quiet('RedisAway', 'it was for a moment', { auth_redis_up: '1x57 0 1x2' }),

  firing(
    'ManyRefused',
    'two a second are',
    { 'auth_rate_limited_total{limit="login"}': '0+120x60' },
    { limit: 'login' },
  ),
  quiet('ManyRefused', 'a few are', { 'auth_rate_limited_total{limit="login"}': '0+6x60' }),

  firing('MailStuck', 'some wait and none is sent', {
    auth_mail_queued: '3x60',
    ...outcome('auth_mail_total', 'sent', '7x60'),
  }),
  quiet('MailStuck', 'some wait and others are sent', {
    auth_mail_queued: '3x60',
    ...outcome('auth_mail_total', 'sent', '0+1x60'),
  }),
  quiet('MailStuck', 'none waits', { auth_mail_queued: '0x60', ...outcome('auth_mail_total', 'sent', '7x60') }),

  firing('MailAbandoned', 'one was', outcome('auth_mail_total', 'abandoned', '0x50 1x10')),
  quiet('MailAbandoned', 'none was', outcome('auth_mail_total', 'abandoned', '0x60')),
]

const contracts = 'kanban,oauth,llm-optimizer:/llm,ai-chat:/chat,auth-signup:/signup,auth-register:/register'
// The gauge of Redis is there where one is set, whether it answers or not.
const { app } = await startService({ CONTRACTS: contracts, RATE_LIMITS: 'on', REDIS_URL: 'redis://127.0.0.1:1' })
const routes = Object.entries(app.swagger().paths ?? {}).flatMap(([path, item]) =>
  Object.keys(item ?? {}).map((method) => ({ route: path.replace(/\{(\w+)\}/g, ':$1'), method: method.toUpperCase() })),
)
const isProbe = ({ route }: { route: string }) => route === '/ready'
const reads = routes.filter((route) => route.method === 'GET' && !isProbe(route))
const writes = routes.filter(({ method }) => method !== 'GET')

/** Every route at once: what is slow is named, whatever contract it belongs to. */
const everywhere = (alert: string, slow: typeof routes, bounds: readonly [string, string]): Case => ({
  alert,
  when: 'every route of every contract is slow',
  series: Object.assign({}, ...slow.map(({ method, route }) => requests(method, route, bounds))) as Series,
  fires: [...new Set(slow.map(({ route }) => route))].map((route) => ({ route })),
})
cases.push(everywhere('SlowReads', reads, ['0.25', '0.5']), everywhere('SlowWrites', writes, ['1', '2.5']))

/** What Prometheus' own test runner says of each case, in one run: a file each, so that it says it of each. */
async function judge(): Promise<string[]> {
  const folder = await temporaryFolder()
  await writeFile(join(folder, 'rules.yaml'), rules)
  const files = cases.map((_, index) => join(folder, `${index}.json`))
  for (const [index, { alert, series, fires }] of cases.entries()) {
    const input = Object.entries(series).map(([name, values]) => ({ series: name, values }))
    const expected = { eval_time: '1h', alertname: alert, exp_alerts: fires.map((labels) => ({ exp_labels: labels })) }
    const tests = [{ interval: '1m', input_series: input, alert_rule_test: [expected] }]
    const content = { rule_files: ['rules.yaml'], evaluation_interval: '1m', tests }
    await writeFile(files[index] ?? '', JSON.stringify(content))
  }
  const { stdout, stderr } = spawnSync('promtool', ['test', 'rules', ...files], { encoding: 'utf8' })
  const said = `${stdout}${stderr}`.trim()
  return stdout
    .split('Unit Testing:')
    .slice(1)
    .map((text) => (text.trim().endsWith('SUCCESS') ? 'SUCCESS' : said))
}

describe('the alerts of deploy/prometheus', () => {
  test('speak of metrics that the service has', async () => {
    const names = new Set(rules.match(/\b(auth|http|nodejs)_\w+/g))
    const text = await app.metricsRegistry.metrics()
    expect(names.size).toBeGreaterThan(8)
    for (const name of names) expect(text).toContain(`# TYPE ${name.replace(/_(bucket|count)$/, '')} `)
  })

  test('have each a case for and a case against', () => {
    const tried = (fire: boolean) => cases.filter(({ fires }) => fires.length > 0 === fire).map(({ alert }) => alert)
    expect(new Set(tried(true))).toEqual(new Set(alerts))
    expect(new Set(tried(false))).toEqual(new Set(alerts))
  })
})

describe.skipIf(noPromtool !== undefined)('Prometheus', () => {
  let verdicts: string[]
  beforeAll(async () => {
    verdicts = await judge()
  })

  test.for(cases.filter(({ fires }) => fires.length > 0))('alerts of $alert when $when', (tried) => {
    expect(verdicts[cases.indexOf(tried)]).toBe('SUCCESS')
  })

  test.for(cases.filter(({ fires }) => fires.length === 0))('says nothing of $alert when $when', (tried) => {
    expect(verdicts[cases.indexOf(tried)]).toBe('SUCCESS')
  })
})

if (noPromtool !== undefined) test('Prometheus', ({ skip }) => skip(noPromtool))

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { temporaryFolder } from '#test/support/process.ts'
import { startService } from '#test/support/service.ts'

const rules = readFileSync(new URL('../../deploy/prometheus/alerts.yaml', import.meta.url), 'utf8')
/** By the name of the alert: how bad it is, and what it says. */
const alerts = new Map(
  rules
    .split('- alert: ')
    .slice(1)
    .map((rule) => {
      const [, severity] = /labels: \{ severity: (\w+) \}/.exec(rule) ?? []
      const [, summary] = /annotations:\n +summary: (.+)/.exec(rule) ?? []
      return [/^\w+/.exec(rule)?.[0] ?? '', { severity, summary }]
    }),
)
const noPromtool =
  spawnSync('promtool', ['--version']).error && 'skipped: there is no promtool (Debian: the package prometheus)'

/** Series and their values minute by minute, in Prometheus' own shorthand: `0+5x60` grows by 5 for 60 minutes. */
type Series = Record<string, string>
interface Case {
  readonly alert: string
  readonly when: string
  readonly series: Series
  /** The labels of the alerts that fire after an hour (SweepStuck: after five), beside the severity. */
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
/** In seconds of five hours: when the last sweep of an instance ended (0: none has), and when the instance started. */
const sweeping = (instance: string, ended: number, started = 60): Series => ({
  [`auth_last_sweep_timestamp_seconds{instance="${instance}"}`]: `${ended}x300`,
  [`process_start_time_seconds{instance="${instance}"}`]: `${started}x300`,
})
const firing = (alert: string, when: string, series: Series, labels: Record<string, string> = {}): Case => ({
  alert,
  when,
  series,
  fires: [labels],
})
const quiet = (alert: string, when: string, series: Series): Case => ({ alert, when, series, fires: [] })

const cases: Case[] = [
  firing('Down', 'it cannot be scraped', { up: '0x60' }, { job: 'latchkey' }),
  firing('Down', 'nobody scrapes it', { 'up{job="another"}': '1x60' }, { job: 'latchkey' }),
  quiet('Down', 'it can', { up: '1x60' }),

  firing(
    'NotReady',
    'one of two goes on not to be',
    { 'auth_ready{instance="a"}': '1x50 0x10', 'auth_ready{instance="b"}': '1x60' },
    { job: 'latchkey', instance: 'a' },
  ),
  quiet('NotReady', 'it was not while it closed', { auth_ready: '1x57 0x2' }),

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
  quiet('SlowReads', 'only the metrics wait for the database', requests('GET', '/metrics', ['1', '2.5'])),
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

  firing('DatabaseQueue', 'twenty wait', { auth_database_statements_waiting: '20x60' }, { job: 'latchkey' }),
  quiet('DatabaseQueue', 'five wait', { auth_database_statements_waiting: '5x60' }),

  firing('EventLoopLate', 'it is 300 ms late', { nodejs_eventloop_lag_p99_seconds: '0.3x60' }, { job: 'latchkey' }),
  quiet('EventLoopLate', 'it is 20 ms late', { nodejs_eventloop_lag_p99_seconds: '0.02x60' }),

  firing('RedisAway', 'it is', { auth_redis_up: '0x60' }, { job: 'latchkey' }),
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
  quiet('MailStuck', 'one waits, and Prometheus knows no more than five minutes', {
    auth_mail_queued: '_x55 1x5',
    ...outcome('auth_mail_total', 'sent', '_x55 0x5'),
  }),
  quiet('MailStuck', 'none waits', { auth_mail_queued: '0x60', ...outcome('auth_mail_total', 'sent', '7x60') }),

  firing('MailAbandoned', 'one was', outcome('auth_mail_total', 'abandoned', '0x50 1x10')),
  quiet('MailAbandoned', 'none was', outcome('auth_mail_total', 'abandoned', '0x60')),

  firing('SweepStuck', 'one ended four hours ago', sweeping('one', 3600)),
  firing('SweepStuck', 'none has ended since a start four hours ago', sweeping('one', 0, 3600)),
  firing('SweepStuck', 'that of one ended four hours ago, and another has SWEEP=off', {
    ...sweeping('one', 3600),
    'process_start_time_seconds{instance="other"}': '17000x300',
  }),
  quiet('SweepStuck', 'one of two ended an hour ago', { ...sweeping('one', 3600), ...sweeping('two', 14_400) }),
  quiet('SweepStuck', 'it started an hour ago', sweeping('one', 0, 14_400)),
  quiet('SweepStuck', 'all have SWEEP=off', { 'process_start_time_seconds{instance="one"}': '60x300' }),
]

const contracts = 'kanban,oauth,llm-optimizer:/llm,ai-chat:/chat,auth-signup:/signup,auth-register:/register'
// The gauge of Redis is there where one is set, whether it answers or not.
const { app } = await startService({
  CONTRACTS: contracts,
  RATE_LIMITS: 'on',
  SWEEP: 'on',
  REDIS_URL: 'redis://127.0.0.1:1',
})
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

// On a Prometheus that many share, strangers have metrics of the same names.
for (const { alert, when, series } of cases.filter(({ alert, fires }) => alert !== 'Down' && fires.length > 0)) {
  const ofAnother = Object.entries(series).map(([name, values]) => [withJob(name, 'another'), values])
  cases.push(quiet(alert, `in another job ${when}`, Object.fromEntries(ofAnother) as Series))
}

/** As Prometheus stores it; each has one. */
function withJob(series: string, job: string): string {
  if (series.includes('job=')) return series
  const [name, labels = '}'] = series.split('{')
  return `${name}{job="${job}",${labels}`
}

/** What Prometheus' own test runner says of each case, in one run: a file each, so that it says it of each. */
async function judge(): Promise<string[]> {
  const folder = await temporaryFolder()
  await writeFile(join(folder, 'rules.yaml'), rules)
  const files = cases.map((_, index) => join(folder, `${index}.json`))
  for (const [index, { alert, series, fires }] of cases.entries()) {
    const input = Object.entries(series).map(([name, values]) => ({ series: withJob(name, 'latchkey'), values }))
    const { severity, summary } = alerts.get(alert) ?? {}
    const told = fires.map((labels) => ({ exp_labels: { ...labels, severity }, exp_annotations: { summary } }))
    const expected = { eval_time: alert === 'SweepStuck' ? '5h' : '1h', alertname: alert, exp_alerts: told }
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
    const names = new Set(rules.match(/\b(auth|http|nodejs|process)_\w+/g))
    const text = await app.metricsRegistry.metrics()
    expect(names.size).toBeGreaterThan(8)
    for (const name of names) expect(text).toContain(`# TYPE ${name.replace(/_(bucket|count)$/, '')} `)
  })

  test('have each a case for and a case against', () => {
    const tried = (fire: boolean) => cases.filter(({ fires }) => fires.length > 0 === fire).map(({ alert }) => alert)
    expect(new Set(tried(true))).toEqual(new Set(alerts.keys()))
    expect(new Set(tried(false))).toEqual(new Set(alerts.keys()))
  })

  test('say each how bad it is, and what is wrong in a sentence', () => {
    for (const [alert, { severity, summary }] of alerts) {
      expect([alert, severity]).toEqual([alert, expect.stringMatching(/^(critical|warning)$/)])
      expect([alert, summary]).toEqual([alert, expect.stringMatching(/^[A-Z][^:#{]+\.$/)])
    }
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

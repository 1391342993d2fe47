import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { readFileSync, statSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { describe, expect, test, vi } from 'vitest'
import { launchBrowser, noBrowser } from '#test/support/browser.ts'
import { cleanUp } from '#test/support/clean-up.ts'
import { startMailServer } from '#test/support/mail.ts'
import { freePort, onDatabase, type ServerProcess, startServer, temporaryFolder } from '#test/support/process.ts'
import { installPython } from '#test/support/python.ts'
import { proxyTo } from '#test/support/proxy.ts'
import { startRedis } from '#test/support/redis.ts'
import { cloneDatabase, secretKey } from '#test/support/service.ts'
import { type Ask, drawDashboard, filledIn, panels, type Range } from './dashboard.ts'
import { runTraffic } from './traffic.ts'

const root = join(import.meta.dirname, '../..')
const seconds = Number(process.env['TRAFFIC_SECONDS'] ?? 30)
const queries = panels.flatMap(({ title, targets = [] }) =>
  targets.map((target) => ({ title, query: filledIn(target) })),
)
const lacks =
  spawnSync('prometheus', ['--version']).error && 'skipped: there is no Prometheus (Debian: the package prometheus)'

/** Where the picture of docs/operations.md goes; with `SCREENSHOT` set it is taken anew. */
const picture = process.env['SCREENSHOT'] ? join(root, 'docs/dashboard.png') : undefined

/** What the traffic makes happen; a counter of it has moved. */
const happenings = [
  ...words('rotated replayed late superseded reused unavailable').map((it) => `auth_refresh_total{outcome="${it}"}`),
  ...words('succeeded failed unavailable').map((outcome) => `auth_logins_total{outcome="${outcome}"}`),
  ...words('sent retried abandoned').map((outcome) => `auth_mail_total{outcome="${outcome}"}`),
  ...words('logout reuse').map((reason) => `auth_sessions_revoked_total{reason="${reason}"}`),
  'auth_rate_limited_total{limit="login-account-address"}',
  // The first sweep comes within a minute and a half of a start.
  ...(seconds < 240 ? [] : ['auth_sweep_deleted_total{table="sessions"}']),
  'http_request_duration_seconds_count{route="/ready",status_code="503"}',
]

/** A Prometheus that runs with the files of deploy/, but more often; resolves to what asks its API. */
async function startPrometheus(targets: readonly string[]): Promise<Ask> {
  const folder = await temporaryFolder()
  const address = `127.0.0.1:${await freePort()}`
  const config = [
    ['/run/secrets/metrics_token', join(folder, 'token')],
    ['alerts.yaml', join(root, 'deploy/prometheus/alerts.yaml')],
    ["'latchkey:8000'", targets.map((target) => `'${new URL(target).host}'`).join(', ')],
    // Few rounds are worth a second each; over minutes a busy machine should have time to answer.
    ['15s', seconds < 120 ? '1s' : '5s'],
  ].reduce(
    (text, [from = '', to = '']) => text.replaceAll(from, to),
    readFileSync(join(root, 'deploy/prometheus/prometheus.yaml'), 'utf8'),
  )
  await writeFile(join(folder, 'token'), secretKey)
  await writeFile(join(folder, 'prometheus.yaml'), config)
  const options = [`--config.file=${folder}/prometheus.yaml`, `--storage.tsdb.path=${folder}/data`]
  const child = spawn('prometheus', [...options, `--web.listen-address=${address}`], { stdio: 'ignore' })
  cleanUp(() => child.kill('SIGKILL'))
  await vi.waitFor(() => fetch(`http://${address}/-/ready`), 30_000)
  return async <Data>(path: string, parameters: Record<string, string> = {}) => {
    const reply = await fetch(`http://${address}/api/v1/${path}?${String(new URLSearchParams(parameters))}`)
    const answer = (await reply.json()) as { status: string; error?: string; data: Data }
    if (answer.status !== 'success') throw new Error(answer.error)
    return answer.data
  }
}

/** Two instances in use for so long; each is restarted once, and the database is away for a moment after that. Resolves to what saw it. */
async function runService(): Promise<{ ask: Ask; range: Range }> {
  const { url, sql } = await cloneDatabase()
  const database = await proxyTo({ url })
  const mail = await startMailServer({
    onRcptTo({ address }, _session, callback) {
      const code = address.startsWith('full') ? 452 : address.startsWith('gone') ? 550 : undefined
      callback(code === undefined ? null : Object.assign(new Error('no'), { responseCode: code }))
    },
  })
  const settings = {
    RATE_LIMITS: 'on',
    TRUSTED_PROXIES: '127.0.0.1/32',
    REDIS_URL: (await startRedis()) ?? 'redis://127.0.0.1:1',
    ALGORITHM: 'ES256',
    SWEEP: 'on',
    METRICS_TOKEN: secretKey,
    DRAIN_SECONDS: '3',
    SMTP_URL: mail.url,
    MAIL_FROM: 'auth@example.com',
  }
  const pause = () => setTimeout(seconds * 150)
  const start = async (port: number) => {
    const server = startServer({ ...onDatabase(database.url), ...settings, PORT: String(port) })
    return { port, server, base: await server.listening }
  }
  const instances = [await start(await freePort()), await start(await freePort())]
  const bases = instances.map(({ base }) => base)
  const ask = await startPrometheus(bases)
  const restart = async ({ server, port }: { server: ServerProcess; port: number }) => {
    await pause()
    // What has ended is old enough for the sweep of the next start.
    await sql`update sessions set revoked_at = revoked_at - interval '8 days' where revoked_at is not null`
    server.child.kill('SIGTERM')
    await server.exited
    await start(port)
  }
  const loseDatabase = async () => {
    await pause()
    database.refuse(true)
    // Whatever the traffic does just then, somebody tries to log in.
    for (const base of bases) await logInAt(base)
    await setTimeout(3000 + 20 * seconds)
    database.refuse(false)
  }
  const begun = Date.now() / 1000
  let hasHappened = false
  const happen = async () => {
    try {
      for (const instance of instances) await restart(instance).then(loseDatabase)
    } finally {
      hasHappened = true
    }
  }
  const isOver = () => hasHappened && Date.now() / 1000 > begun + seconds
  await Promise.all([runTraffic({ bases, sql, isOver }), happen()])
  return { ask, range: { start: begun, end: Date.now() / 1000 } }
}

function logInAt(base: string): Promise<Response> {
  const headers = { 'x-forwarded-for': '198.51.100.250' }
  const body = new URLSearchParams({ username: 'somebody@example.com', password: secretKey })
  return fetch(`${base}/api/v1/token`, { method: 'POST', headers, body })
}

/** Each metric that a query asks for, once for each value that a label of it may have. */
function selectorsOf(query: string): string[] {
  const selectors = query.match(/\b(?:(?:auth|http|nodejs|process|latchkey)_\w+|up\b)(?:\{[^}]*\})?/g) ?? []
  return selectors.flatMap(eachValue)
}

function eachValue(selector: string): string[] {
  const [found, label, values] = /(\w+)=~"([^"|]+\|[^"]+)"/.exec(selector) ?? []
  if (found === undefined || values === undefined) return [selector]
  return values.split('|').flatMap((value) => eachValue(selector.replace(found, `${label}="${value}"`)))
}

describe.skipIf(lacks !== undefined)('a Prometheus that has scraped a service', async () => {
  if (lacks !== undefined) return
  const { ask, range } = await runService()
  const rowsOf = async (query: string) =>
    (await ask<{ result: { value: [number, string] }[] }>('query', { query })).result

  test('has seen all that happened', async () => {
    await vi.waitFor(async () => {
      const counts = await Promise.all(happenings.map((it) => rowsOf(`sum(max_over_time(${it}[1h])) > 0`)))
      expect(happenings.filter((_, index) => counts[index]?.length === 0)).toEqual([])
    }, 10_000)
  })

  test('knows every metric and label that the dashboard and the alerts ask for, of this job alone', async () => {
    const { groups } = await ask<{ groups: { rules: { query: string; health: string }[] }[] }>('rules')
    const alerts = groups.flatMap(({ rules }) => rules)
    expect(alerts.length).toBeGreaterThan(10)
    expect(alerts.filter(({ health }) => health !== 'ok')).toEqual([])
    const selectors = [...alerts, ...queries].flatMap(({ query }) => selectorsOf(query))
    expect(selectors.filter((it) => !it.includes('job="latchkey"'))).toEqual([])
    const unknown = await Promise.all(
      [...new Set(selectors)].map(async (it) => ((await rowsOf(`last_over_time(${it}[1h])`)).length > 0 ? [] : [it])),
    )
    expect(unknown.flat()).toEqual([])
  })

  test.each(queries)('has an answer for the panel “$title”: $query', async ({ query }) => {
    await vi.waitFor(async () => expect(await rowsOf(query)).not.toEqual([]), 30_000)
  })

  test.skipIf(noBrowser)('has enough for a picture of the whole dashboard', async () => {
    const page = await drawDashboard(ask, range)
    expect(page.match(/<section/g)).toHaveLength(panels.filter(({ type }) => type !== 'row').length)
    expect(page).not.toContain('No data')
    const path = picture ?? join(await temporaryFolder(), 'dashboard.png')
    const browser = await launchBrowser()
    cleanUp(() => browser.close())
    const tab = await browser.newPage({ viewport: { width: 1352, height: 900 } })
    await tab.setContent(page)
    await tab.screenshot({ path, fullPage: true })
    expect(statSync(path).size).toBeGreaterThan(50_000)
    if (picture !== undefined) reduceColours(picture)
  })
})

/** To as many as a palette of 64 has, which is a third of the bytes. */
function reduceColours(path: string): void {
  const program =
    'import sys; from PIL import Image; p = sys.argv[1]; Image.open(p).quantize(64, dither=0).save(p, optimize=True)'
  execFileSync(join(installPython('pictures', 'pillow==13.0.0'), 'python'), ['-c', program, path])
  expect(statSync(path).size).toBeLessThan(200_000)
}

function words(text: string): string[] {
  return text.split(' ')
}

if (lacks !== undefined) test('Prometheus', ({ skip }) => skip(lacks))

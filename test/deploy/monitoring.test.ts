import { spawn, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { password } from '#test/support/actors.ts'
import { cleanUp } from '#test/support/clean-up.ts'
import { freePort, onDatabase, send, startServer, temporaryFolder } from '#test/support/process.ts'
import { cloneDatabase } from '#test/support/service.ts'

interface Dashboard {
  readonly panels: ReadonlyArray<{
    readonly title: string
    readonly targets?: ReadonlyArray<{ readonly expr: string }>
  }>
}

const deploy = new URL('../../deploy/', import.meta.url).pathname
const dashboard = JSON.parse(readFileSync(join(deploy, 'grafana/latchkey.json'), 'utf8')) as Dashboard
const queries = dashboard.panels.flatMap(({ title, targets = [] }) =>
  targets.map(({ expr }) => ({ title, query: expr.replaceAll('$__rate_interval', '30s') })),
)
const lacks =
  spawnSync('prometheus', ['--version']).error && 'skipped: there is no Prometheus (Debian: the package prometheus)'

/** A service that has seen something of everything, and answers at `base`. */
async function startUsedService(): Promise<string> {
  const { url } = await cloneDatabase()
  // The gauge of Redis is there where one is set, whether it answers or not; that of the key where there is one.
  const settings = { RATE_LIMITS: 'on', REDIS_URL: 'redis://127.0.0.1:1', ALGORITHM: 'ES256', SWEEP: 'on' }
  const base = await startServer({ ...onDatabase(url), ...settings }).listening
  const email = `${randomUUID()}@example.com`
  await send(`${base}/api/v1/users/`, { email, password })
  await send(`${base}/api/v1/users/`, { email: 'nobody', password })
  const { body } = await send(`${base}/api/v1/token`, { username: email, password })
  for (let again = 0; again < 2; again++)
    await send(`${base}/api/v1/refresh`, { refresh_token: String(body['refresh_token']) })
  for (let guess = 0; guess < 12; guess++) await send(`${base}/api/v1/token`, { username: email, password: 'a guess' })
  await send(`${base}/api/v1/me`, undefined, { authorization: `Bearer ${String(body['access_token'])}` })
  await send(`${base}/api/v1/logout`, {}, { authorization: `Bearer ${String(body['access_token'])}` })
  await send(`${base}/ready`)
  return base
}

/** A Prometheus that asks the service each second; resolves to what asks its API. */
async function startPrometheus(target: string) {
  const folder = await temporaryFolder()
  const address = `127.0.0.1:${await freePort()}`
  const config = {
    global: { scrape_interval: '1s', evaluation_interval: '1s' },
    rule_files: [join(deploy, 'prometheus/alerts.yaml')],
    scrape_configs: [{ job_name: 'latchkey', static_configs: [{ targets: [new URL(target).host] }] }],
  }
  await writeFile(join(folder, 'prometheus.yaml'), JSON.stringify(config))
  const options = [`--config.file=${folder}/prometheus.yaml`, `--storage.tsdb.path=${folder}/data`]
  const child = spawn('prometheus', [...options, `--web.listen-address=${address}`], { stdio: 'ignore' })
  cleanUp(() => child.kill('SIGKILL'))
  await vi.waitFor(() => fetch(`http://${address}/-/ready`), 30_000)
  return async <Data>(path: string, parameters: Record<string, string> = {}): Promise<Data> => {
    const reply = await fetch(`http://${address}/api/v1/${path}?${String(new URLSearchParams(parameters))}`)
    const answer = (await reply.json()) as { status: string; error?: string; data: Data }
    if (answer.status !== 'success') throw new Error(answer.error)
    return answer.data
  }
}

describe.skipIf(lacks !== undefined)('a Prometheus that has scraped a service', async () => {
  if (lacks !== undefined) return
  const base = await startUsedService()
  const ask = await startPrometheus(base)
  const rowsOf = async (query: string) => (await ask<{ result: unknown[] }>('query', { query })).result

  test('knows every metric that the dashboard and the alerts ask for', async () => {
    const { groups } = await ask<{ groups: { rules: { query: string }[] }[] }>('rules')
    const alerts = groups.flatMap(({ rules }) => rules.map(({ query }) => query))
    expect(alerts.length).toBeGreaterThan(10)
    const asked = [...alerts, ...queries.map(({ query }) => query)].join('\n')
    const names = [...new Set(asked.match(/\b(?:auth|http|nodejs|process|latchkey)_\w+|\bup\b/g))]
    await vi.waitFor(async () => {
      const known = await ask<string[]>('label/__name__/values')
      expect(names.filter((name) => !known.includes(name))).toEqual([])
    }, 30_000)
  })

  test.each(queries)('has an answer for the panel “$title”: $query', async ({ query }) => {
    await vi.waitFor(async () => expect(await rowsOf(query)).not.toEqual([]), 30_000)
  })
})

if (lacks !== undefined) test('Prometheus', ({ skip }) => skip(lacks))

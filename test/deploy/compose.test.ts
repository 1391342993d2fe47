import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { temporaryFolder } from '#test/support/process.ts'
import { installPython, lacksPython } from '#test/support/python.ts'

const root = join(import.meta.dirname, '../..')
const read = (path: string) => readFileSync(join(root, path), 'utf8')
/** One brings the schema that Compose publishes, the other reads the file as an engine would. */
const judges = ['check-jsonschema==0.39.0', 'podman-compose==1.6.0']
const noPromtool =
  spawnSync('promtool', ['--version']).error && 'skipped: there is no promtool (Debian: the package prometheus)'

const run = (program: string, ...options: string[]) =>
  spawnSync(program, options, {
    cwd: root,
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], DB_PASSWORD: 'a', SECRET_KEY: 'b', METRICS_TOKEN: 'c', PUBLIC_URL: 'http://d' },
  })

test(
  'compose.yaml is what Compose publishes as its schema, with and without monitoring',
  { timeout: 180_000 },
  ({ skip }) => {
    if (lacksPython !== undefined) {
      console.log(`The test of compose.yaml is ${lacksPython}.`)
      return skip(lacksPython)
    }
    const programs = installPython('compose', ...judges)
    const judged = run(join(programs, 'check-jsonschema'), '--builtin-schema', 'vendor.compose-spec', 'compose.yaml')
    expect([judged.status, judged.stdout]).toEqual([0, expect.stringContaining('ok')])
    const servicesWith = (...options: string[]) => {
      const { stdout, stderr, status } = run(join(programs, 'podman-compose'), ...options, 'config', '--services')
      expect([status, stderr]).toEqual([0, ''])
      return stdout.trim().split('\n').toSorted()
    }
    expect(servicesWith()).toEqual(['latchkey', 'postgres'])
    expect(servicesWith('--profile', 'monitoring')).toEqual(['grafana', 'latchkey', 'postgres', 'prometheus'])
  },
)

test('every file that compose.yaml mounts is there, where the one that reads it looks for it', () => {
  const mounts = [...read('compose.yaml').matchAll(/- \.\/(deploy\S+?):(\S+?):ro/g)].map(
    ([, from = '', to = '']) => [from, to] as const,
  )
  expect(mounts.map(([from]) => from).filter((from) => !existsSync(join(root, from)))).toEqual([])
  const places = new Map(mounts)
  expect(places.size).toBe(5)
  const folder = /path: (\S+)/.exec(read('deploy/grafana/dashboards.yaml'))?.[1]
  expect(places.get('deploy/grafana/latchkey.json')).toBe(`${folder}/latchkey.json`)
  const rules = /rule_files:\n\s+- (\S+)/.exec(read('deploy/prometheus/prometheus.yaml'))?.[1]
  expect(places.get('deploy/prometheus/alerts.yaml')).toBe(`/etc/prometheus/${rules}`)
  for (const [host, text] of [
    ['prometheus:9090', 'grafana/datasource.yaml'],
    ['latchkey:8000', 'prometheus/prometheus.yaml'],
  ] as const)
    expect(read(`deploy/${text}`)).toContain(host)
})

test.skipIf(noPromtool)('the configuration of Prometheus is one, with its alerts', async () => {
  const folder = await temporaryFolder()
  const token = '/run/secrets/metrics_token'
  const config = read('deploy/prometheus/prometheus.yaml')
  expect(config).toContain(`credentials_file: ${token}\n`)
  await writeFile(join(folder, 'token'), 'a token')
  const rules = read('deploy/prometheus/alerts.yaml')
  await writeFile(join(folder, 'alerts.yaml'), rules)
  await writeFile(join(folder, 'prometheus.yaml'), config.replace(token, join(folder, 'token')))
  const { stdout, status } = run('promtool', 'check', 'config', join(folder, 'prometheus.yaml'))
  expect([status, stdout]).toEqual([0, expect.stringContaining(`${rules.match(/- alert: /g)?.length} rules found`)])
})

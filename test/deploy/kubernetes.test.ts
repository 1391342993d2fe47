import { spawnSync } from 'node:child_process'
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import { expect, test } from 'vitest'
import { readConfig } from '#src/config.ts'
import { temporaryFolder } from '#test/support/process.ts'
import { installPython, lacksPython } from '#test/support/python.ts'
import { secretKey } from '#test/support/service.ts'

const root = new URL('../..', import.meta.url).pathname
const folder = join(root, 'deploy/kubernetes')
const read = (file: string) => readFileSync(join(folder, file), 'utf8')
const manifests = readdirSync(folder).filter((file) => file.endsWith('.yaml') && file !== 'kustomization.yaml')
const ofTheOperator = new Set(['alerts.yaml', 'monitoring.yaml'])
const kubectl = spawnSync('kubectl', ['version', '--client', '--output=json'], { encoding: 'utf8' })
const minor = kubectl.status === 0 ? Number.parseInt(/"minor": "(\d+)/.exec(kubectl.stdout)?.[1] ?? '0', 10) : 0
const lacksKubectl = minor >= 21 ? undefined : 'skipped: there is no kubectl of 1.21 or newer'
/** It brings the schemas that Kubernetes publishes. */
const judge = 'kubernetes-validate==1.37.0'

test('the manifests are what Kubernetes publishes as their schemas', { timeout: 300_000 }, ({ skip }) => {
  if (lacksPython !== undefined) {
    console.log(`The test of the manifests is ${lacksPython}.`)
    return skip(lacksPython)
  }
  const programs = installPython('kubernetes-validate', judge)
  for (const file of manifests.filter((name) => !ofTheOperator.has(name))) {
    const options = ['--strict', '--kubernetes-version', '1.30', join(folder, file)]
    const { status, stdout, stderr } = spawnSync(join(programs, 'kubernetes-validate'), options, {
      encoding: 'utf8',
    })
    expect([file, status, stdout + stderr]).toEqual([file, 0, expect.stringContaining('passed')])
  }
})

test('the settings of the manifests are those of the service', () => {
  const settings = parseEnv(read('settings.env')) as Record<string, string>
  const secrets = { DATABASE_URL: 'postgres://db/latchkey', SECRET_KEY: secretKey, METRICS_TOKEN: secretKey }
  const documented = readFileSync(join(root, 'README.md'), 'utf8')
  for (const name of Object.keys({ ...settings, ...secrets })) expect(documented).toContain(`| \`${name}\``)
  expect(readConfig({ ...settings, ...secrets }).service).toMatchObject({ production: true, drainSeconds: 10 })
})

test('every manifest is listed', () => {
  const listed = read('kustomization.yaml').match(/- ([a-z]+\.yaml)/g)
  expect(listed?.map((line) => line.slice(2)).toSorted()).toEqual(manifests.toSorted())
})

test('a changed setting gets a name of its own, by which the pods refer to it and the Job does not', async ({
  skip,
}) => {
  if (lacksKubectl !== undefined) {
    console.log(`The test of what kubectl makes of the manifests is ${lacksKubectl}.`)
    return skip(lacksKubectl)
  }
  const changed = await temporaryFolder()
  cpSync(folder, changed, { recursive: true })
  writeFileSync(join(changed, 'settings.env'), read('settings.env').replace('DRAIN_SECONDS=10', 'DRAIN_SECONDS=12'))
  const [before, after] = [build(folder), build(changed)]
  expect(before.settings).toMatch(/^latchkey-\w+$/)
  expect(before.reference).toBe(before.settings)
  expect(after.reference).toBe(after.settings)
  expect(after.settings).not.toBe(before.settings)
  expect(after.job).toBe(before.job)
})

/** What kubectl makes of a folder: the name of the settings, the one by which the pods refer to them, and the Job. */
function build(place: string) {
  const { stdout, stderr } = spawnSync('kubectl', ['kustomize', place], { encoding: 'utf8' })
  expect(stderr).toBe('')
  const kind = (name: string) => stdout.split('---\n').find((text) => text.includes(`\nkind: ${name}\n`)) ?? ''
  return {
    settings: /\n {2}name: (.+)/.exec(kind('ConfigMap'))?.[1],
    reference: /configMapRef:\n +name: (.+)/.exec(kind('Deployment'))?.[1],
    job: kind('Job'),
  }
}

test('the operator gets the alerts of Prometheus', () => {
  const [, groups = ''] = read('alerts.yaml').split('\nspec:\n')
  const alerts = readFileSync(join(root, 'deploy/prometheus/alerts.yaml'), 'utf8')
  expect(groups.replace(/^ {2}/gm, '')).toBe(alerts.slice(alerts.indexOf('groups:')))
})

test('the operator scrapes the Service by its label and port, as the job of the alerts, with the token of the Secret', () => {
  const [monitor, service] = [read('monitoring.yaml'), read('service.yaml')]
  const [, label] = /matchLabels: (\{ .+ \})/.exec(monitor) ?? []
  expect(service).toContain(`\n  labels: ${label}\n`)
  const [, jobLabel] = /jobLabel: (.+)/.exec(monitor) ?? []
  expect(label).toBe(`{ ${jobLabel}: latchkey }`)
  const [, port] = /- port: (.+)/.exec(monitor) ?? []
  expect(service).toContain(`- { name: ${port}, port: 80,`)
  const [, secret, key] = /credentials: \{ name: (\w+), key: (\w+) \}/.exec(monitor) ?? []
  expect(read('deployment.yaml')).toContain(`- secretRef: { name: ${secret} }`)
  expect(read('settings.env')).toMatch(new RegExp(`Secret \`${secret}\` with .*\\b${key}\\b`))
})

test('the network policy lets out to PostgreSQL, PgBouncer, Redis and the mail server', () => {
  const ports = [...read('network.yaml').matchAll(/protocol: TCP, port: (\d+)/g)].map(([, port]) => Number(port))
  expect(ports).toEqual(expect.arrayContaining([5432, 6432, 6379, 465, 587]))
})

test('every pod has the name by which the network policy knows it', () => {
  for (const file of ['deployment.yaml', 'migration.yaml']) {
    expect(read(file)).toMatch(/template:\n {4}metadata:\n {6}labels: \{ app.kubernetes.io\/name: latchkey,/)
  }
  expect(read('network.yaml')).toContain('matchLabels: { app.kubernetes.io/name: latchkey }')
})

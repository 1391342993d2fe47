import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readConfig } from '#src/config.ts'
import { installPython, lacksPython } from '#test/support/python.ts'
import { secretKey } from '#test/support/service.ts'

const root = new URL('../..', import.meta.url).pathname
const folder = join(root, 'deploy/kubernetes')
const files = ['namespace', 'config', 'migration', 'deployment', 'service', 'scaling', 'network'].map(
  (name) => `${name}.yaml`,
)
/** It brings the schemas that Kubernetes publishes. */
const judge = 'kubernetes-validate==1.37.0'

test('the manifests are what Kubernetes publishes as their schemas', { timeout: 300_000 }, ({ skip }) => {
  if (lacksPython !== undefined) {
    console.log(`The test of the manifests is ${lacksPython}.`)
    return skip(lacksPython)
  }
  const programs = installPython('kubernetes-validate', judge)
  for (const file of files) {
    const options = ['--strict', '--kubernetes-version', '1.30', join(folder, file)]
    const { status, stdout, stderr } = spawnSync(join(programs, 'kubernetes-validate'), options, {
      encoding: 'utf8',
    })
    expect([file, status, stdout + stderr]).toEqual([file, 0, expect.stringContaining('passed')])
  }
})

test('the settings of the manifests are those of the service', () => {
  const text = readFileSync(join(folder, 'config.yaml'), 'utf8')
  const settings = Object.fromEntries(
    [...text.matchAll(/^ {2}([A-Z_]+): '?([^'\n]*)'?$/gm)].map(([, name = '', value = '']) => [name, value]),
  )
  const secrets = { DATABASE_URL: 'postgres://db/latchkey', SECRET_KEY: secretKey, METRICS_TOKEN: secretKey }
  const documented = readFileSync(join(root, 'README.md'), 'utf8')
  for (const name of Object.keys({ ...settings, ...secrets })) expect(documented).toContain(`| \`${name}\``)
  expect(readConfig({ ...settings, ...secrets }).service).toMatchObject({ production: true, drainSeconds: 10 })
})

test('every manifest is listed', () => {
  const listed = readFileSync(join(folder, 'kustomization.yaml'), 'utf8').match(/- ([a-z]+\.yaml)/g)
  expect(listed?.map((line) => line.slice(2)).toSorted()).toEqual([...files, 'monitoring.yaml'].toSorted())
})

test('every pod has the name by which the network policy knows it', () => {
  for (const file of ['deployment.yaml', 'migration.yaml']) {
    const text = readFileSync(join(folder, file), 'utf8')
    expect(text).toMatch(/template:\n {4}metadata:\n {6}labels: \{ app.kubernetes.io\/name: latchkey,/)
  }
  expect(readFileSync(join(folder, 'network.yaml'), 'utf8')).toContain(
    'matchLabels: { app.kubernetes.io/name: latchkey }',
  )
})

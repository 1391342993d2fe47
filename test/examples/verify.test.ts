import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { createPrivateKey, generateKeyPairSync, randomUUID } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { SignJWT } from 'jose'
import { describe, expect, test, vi } from 'vitest'
import { signedUp } from '#test/support/actors.ts'
import { cleanUp } from '#test/support/clean-up.ts'
import { freePort } from '#test/support/process.ts'
import { startService } from '#test/support/service.ts'

const examples = new URL('../../examples/verify/', import.meta.url).pathname
const client = 'api:a-secret-of-the-api-0123456789'
const runs = (program: string, ...args: string[]) => spawnSync(program, args).status === 0
/** The examples are for the languages of today. */
const hasGo = () => Number(/go1\.(\d+)/.exec(String(spawnSync('go', ['version']).stdout))?.[1] ?? 0) >= 25

interface Example {
  readonly language: string
  /** What the example cannot be without. */
  readonly lacks: string | undefined
  readonly build: () => void
  readonly command: (port: string) => [string, ...string[]]
  readonly paths?: readonly string[]
}

const inFolder = (folder: string, program: string, ...args: string[]) =>
  execFileSync(program, args, { cwd: join(examples, folder), stdio: ['ignore', 'ignore', 'inherit'] })

const list: readonly Example[] = [
  { language: 'typescript', lacks: undefined, build: () => {}, command: () => [process.execPath, 'server.ts'] },
  {
    language: 'python',
    lacks: runs('python3', '-c', 'import ensurepip, venv') ? undefined : 'python3 with venv',
    build: () => {
      if (!existsSync(join(examples, 'python/.venv'))) inFolder('python', 'python3', '-m', 'venv', '.venv')
      inFolder('python', '.venv/bin/pip', 'install', '--quiet', '--disable-pip-version-check', '-r', 'requirements.txt')
    },
    command: (port) => ['.venv/bin/uvicorn', 'main:app', '--log-level', 'warning', '--port', port],
    paths: ['/whoami', '/by-validate', '/by-introspection'],
  },
  {
    language: 'go',
    lacks: hasGo() ? undefined : 'go 1.25',
    build: () => inFolder('go', 'go', 'build', '-o', 'verify', '.'),
    command: () => ['./verify'],
  },
  {
    language: 'java',
    lacks: runs('mvn', '--version') ? undefined : 'mvn',
    build: () => inFolder('java', 'mvn', '-q', '-B', '-DskipTests', 'package'),
    command: (port) => ['java', '-jar', 'target/verify-1.jar', `--server.port=${port}`],
  },
]

const port = String(await freePort())
const issuer = `http://127.0.0.1:${port}`
const service = await startService({ PUBLIC_URL: issuer, ALGORITHM: 'ES256', OAUTH_CLIENTS: client })
await service.app.listen({ host: '127.0.0.1', port: Number(port) })

/** A token as the service signs it, but for what is given. */
function forged({
  key,
  typ = 'at+jwt',
  ...claims
}: {
  key?: string
  typ?: string
  aud?: string
  iss?: string
  exp?: number
}) {
  const own = service.app.keyRing.current()
  const now = Math.floor(Date.now() / 1000)
  const all = { sub: '1', sid: randomUUID(), jti: randomUUID(), client_id: 'latchkey', iat: now, exp: now + 600 }
  return new SignJWT({ ...all, iss: issuer, aud: 'latchkey', ...claims })
    .setProtectedHeader({ alg: 'ES256', typ, kid: String(own?.kid) })
    .sign(createPrivateKey(key ?? String(own?.signWith)))
}

describe.each(list)('the example in $language', ({ language, lacks, build, command, paths = ['/whoami'] }) => {
  test('lets in who has an access token, and nobody else', { timeout: 300_000 }, async ({ skip }) => {
    if (lacks !== undefined) {
      console.log(`The example in ${language} is skipped: there is no ${lacks}.`)
      return skip(`there is no ${lacks}`)
    }
    build()
    const own = String(await freePort())
    const [program, ...args] = command(own)
    const env = { ...process.env, ISSUER: issuer, PORT: own, OAUTH_CLIENT: client }
    const child: ChildProcess = spawn(program, args, { cwd: join(examples, language), env, stdio: 'ignore' })
    cleanUp(() => child.kill('SIGKILL'))
    const ask = async (path: string, token: string) => {
      const headers = { authorization: `Bearer ${token}` }
      const reply = await fetch(`http://127.0.0.1:${own}${path}`, { headers })
      return { status: reply.status, body: (await reply.json().catch(() => ({}))) as { user?: string; code?: string } }
    }
    await vi.waitUntil(
      () =>
        ask('/whoami', 'x').then(
          () => true,
          () => false,
        ),
      { timeout: 60_000, interval: 200 },
    )

    const { tokens, userId } = await signedUp(service.app)
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const hour = 3600
    const past = Math.floor(Date.now() / 1000) - hour
    const refused = {
      'of another key': await forged({ key: String(privateKey.export({ type: 'pkcs8', format: 'pem' })) }),
      'for another audience': await forged({ aud: 'others' }),
      'of another issuer': await forged({ iss: 'http://127.0.0.1:1' }),
      'of another type': await forged({ typ: 'JWT' }),
      'that has expired': await forged({ exp: past }),
      'that is a refresh token': tokens.refresh_token,
      'that is none': 'none',
    }
    for (const path of paths) {
      expect([path, (await ask(path, tokens.access_token)).body]).toEqual([path, { user: String(userId) }])
      for (const [what, token] of Object.entries(refused))
        expect([path, what, (await ask(path, token)).status]).toEqual([path, what, 401])
    }
  })
})

test('every folder of examples/verify is tried', () => {
  expect(readdirSync(examples).toSorted()).toEqual(list.map(({ language }) => language).toSorted())
})

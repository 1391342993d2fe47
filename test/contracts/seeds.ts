/**
 * Sends the examples of each service's README to this one with curl, started with that contract alone, and prints what
 * the README says beside what came back; exits 1 when they differ. `DATABASE_URL`, or an embedded Postgres.
 */
import { execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { promisify } from 'node:util'
import { connectAlone } from '#src/db/connect-alone.ts'
import { startEmbeddedPostgres } from '#dev/embedded-postgres/embedded-postgres.ts'
import { databaseUrl } from '#test/support/global-setup.ts'

type Held = Record<string, string>
interface Reply {
  readonly status: number
  readonly body: Record<string, unknown>
}
interface Example {
  /** Such as `POST /login`. */
  readonly request: string
  readonly json?: object | ((held: Held) => object)
  readonly form?: string
  /** Sends the access token of the last login. */
  readonly bearer?: boolean
  readonly status: number
  /** Fields that the reply must have: the value that the README prints, or the name of its type. */
  readonly reply?: Record<string, unknown>
}

const tokenPair = { access_token: 'string', refresh_token: 'string', token_type: 'bearer' }
const refreshToken = ({ refresh_token: token }: Held) => ({ refresh_token: token })
const password = 'a password for the placeholder'
const signedUp = { id: 'integer', username: 'johndoe', email: 'johndoe@example.com', is_active: true }

const llmOptimizer: Example[] = [
  {
    request: 'POST /register',
    json: { email: 'user@example.com', password: 'securepassword123', full_name: 'John Doe' },
    status: 201,
    reply: { email: 'user@example.com', full_name: 'John Doe' },
  },
  {
    request: 'POST /login',
    form: 'username=user@example.com&password=securepassword123',
    status: 200,
    reply: tokenPair,
  },
  { request: 'POST /refresh', json: refreshToken, status: 200, reply: tokenPair },
  { request: 'GET /me', bearer: true, status: 200, reply: { email: 'user@example.com', full_name: 'John Doe' } },
  { request: 'POST /logout', bearer: true, status: 200, reply: { message: 'string' } },
  { request: 'GET /me', bearer: true, status: 401 },
  { request: 'GET /health', status: 200 },
  { request: 'GET /ready', status: 200 },
  { request: 'GET /metrics', status: 200 },
]
const aiChat: Example[] = [
  {
    request: 'POST /register',
    json: { name: 'string', username: 'string', password },
    status: 201,
    reply: { id: 1, name: 'string', username: 'string' },
  },
  { request: 'POST /register', json: { name: 'string', username: 'string', password }, status: 409 },
  {
    request: 'POST /token',
    form: `username=string&password=${encodeURIComponent(password)}`,
    status: 200,
    reply: { access_token: 'string', token_type: 'bearer' },
  },
  { request: 'POST /token', form: 'username=string&password=string', status: 401 },
  { request: 'POST /validate', bearer: true, status: 200, reply: { username: 'string', valid: true } },
  { request: 'POST /validate', status: 401 },
  { request: 'GET /docs', status: 200 },
]
const authSignup: Example[] = [
  {
    request: 'POST /auth/signup',
    json: { username: 'johndoe', email: 'johndoe@example.com', password },
    status: 200,
    reply: signedUp,
  },
  { request: 'POST /auth/signup', json: { username: 'johndoe', email: 'a@example.com', password }, status: 400 },
  { request: 'POST /auth/signup', json: { username: 'a', email: 'johndoe@example.com', password }, status: 400 },
  { request: 'POST /auth/login', json: { username: 'johndoe', password }, status: 200, reply: tokenPair },
  { request: 'POST /auth/login', json: { username: 'johndoe', password: 'wrong' }, status: 401 },
  { request: 'POST /auth/refresh', json: refreshToken, status: 200, reply: tokenPair },
  { request: 'POST /auth/refresh', json: { refresh_token: 'wrong' }, status: 401 },
  { request: 'GET /auth/me', bearer: true, status: 200, reply: signedUp },
  { request: 'POST /auth/logout', status: 200, reply: { message: 'Logout successful' } },
  { request: 'POST /auth/logout', bearer: true, status: 200, reply: { message: 'Logout successful' } },
]
const authRegister: Example[] = [
  {
    request: 'POST /auth/register',
    json: { username: 'johndoe', email: 'johndoe@example.com', password: 'securepassword' },
    status: 201,
    reply: { message: 'User registered successfully', user: 'johndoe' },
  },
  {
    request: 'POST /auth/login',
    form: 'username=johndoe&password=securepassword',
    status: 200,
    reply: { access_token: 'string', token_type: 'bearer' },
  },
  { request: 'POST /auth/forgot-password', json: { email: 'johndoe@example.com' }, status: 200 },
  { request: 'GET /auth/reset-password/{token}', status: 303 },
  { request: 'POST /auth/reset-password/{token}', json: { new_password: 'newSecurePassword' }, status: 200 },
  { request: 'POST /auth/reset-password/{token}', json: { new_password: 'newSecurePassword' }, status: 400 },
  { request: 'POST /auth/login', form: 'username=johndoe&password=securepassword', status: 401 },
  { request: 'POST /auth/login', form: 'username=johndoe&password=newSecurePassword', status: 200 },
]
const kanban: Example[] = [
  {
    request: 'POST /api/v1/users/',
    json: { email: 'user@example.com', password },
    status: 201,
    reply: { id: 'integer', email: 'user@example.com' },
  },
  { request: 'POST /api/v1/users/', json: { email: 'user@example.com', password }, status: 409 },
  { request: 'POST /api/v1/users/', json: { email: 'user' }, status: 400 },
  {
    request: 'POST /api/v1/token',
    form: `username=user@example.com&password=${encodeURIComponent(password)}`,
    status: 200,
    reply: tokenPair,
  },
  { request: 'POST /api/v1/refresh', json: refreshToken, status: 200, reply: tokenPair },
  { request: 'GET /api/v1/me', bearer: true, status: 200, reply: { email: 'user@example.com' } },
  { request: 'POST /api/v1/logout', bearer: true, status: 204 },
  { request: 'POST /api/v1/refresh', json: refreshToken, status: 401 },
  { request: 'GET /api/v1/health', status: 200 },
  { request: 'GET /metrics', status: 200 },
]
const seeds = {
  'llm-optimizer': llmOptimizer,
  'ai-chat': aiChat,
  'auth-signup': authSignup,
  'auth-register': authRegister,
  kanban,
}

const database = await startDatabase()
const rows = [['contract', 'request', 'expected', 'got', '']]
for (const [contract, examples] of Object.entries(seeds)) {
  const service = await startService(contract)
  const held: Held = {}
  for (const example of examples) {
    const { status, body } = await curl(service.base, example, held)
    for (const name of ['access_token', 'refresh_token']) if (typeof body[name] === 'string') held[name] = body[name]
    const wanted = example.reply ?? {}
    const got = Object.fromEntries(Object.keys(wanted).map((name) => [name, shapeOf(body[name], wanted[name])]))
    const same = status === example.status && JSON.stringify(got) === JSON.stringify(wanted)
    rows.push([contract, example.request, told(example.status, wanted), told(status, got), same ? '' : '<'])
  }
  await service.stop()
}
await database.stop()

const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)))
for (const row of rows)
  process.stdout.write(
    `${row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join(' | ')
      .trimEnd()}\n`,
  )
const differences = rows.slice(1).filter((row) => row[4] !== '').length
process.stdout.write(`\n${rows.length - 1} requests, ${differences} differ from the README\n`)
process.exitCode = differences === 0 ? 0 : 1

/** Asks as a shell would; what is unavailable for a moment is asked again. */
async function curl(base: string, example: Example, held: Held, tries = 5): Promise<Reply> {
  const { request, json, form, bearer } = example
  const [method = '', path = ''] = request.split(' ')
  if (path.includes('{token}')) held['mailed'] ??= await mailedToken(base)
  const data = form ?? (json && JSON.stringify(typeof json === 'function' ? json(held) : json))
  const args = [
    '--silent',
    '--request',
    method,
    `${base}${path.replace('{token}', held['mailed'] ?? '')}`,
    '--write-out',
    '\n%{http_code}',
  ]
  if (data !== undefined) args.push('--data', data)
  if (json !== undefined) args.push('--header', 'Content-Type: application/json')
  if (bearer) args.push('--header', `Authorization: Bearer ${held['access_token']}`)
  const { stdout } = await promisify(execFile)('curl', args)
  const [, text = '', status] = /^(.*)\n(\d+)$/s.exec(stdout) ?? []
  if (status === '503' && example.status !== 503 && tries > 0) {
    await setTimeout(1000)
    return curl(base, example, held, tries - 1)
  }
  return { status: Number(status), body: text.startsWith('{') ? (JSON.parse(text) as Record<string, unknown>) : {} }
}

/** The token of the first link that was mailed, which takes a moment. */
async function mailedToken(base: string): Promise<string> {
  for (let attempt = 0; attempt < 600; attempt++) {
    const token = /reset-password#token=([\w-]+)/.exec(await (await fetch(`${base}/dev/mails`)).text())?.[1]
    if (token !== undefined) return token
    await setTimeout(50)
  }
  throw new Error('no mail has come')
}

/** The value, or the name of its type where only that is asked for. */
function shapeOf(value: unknown, wanted: unknown): unknown {
  const type = Number.isInteger(value) ? 'integer' : typeof value
  return type === wanted ? type : (value ?? null)
}

function told(status: number, fields: Record<string, unknown>): string {
  return [status, ...Object.entries(fields).map(([name, value]) => `${name}: ${String(value)}`)].join(' ')
}

/** The service as `npm start` runs it, with one contract, on a new database. */
async function startService(contract: string) {
  const url = await database.create()
  const environment = { DATABASE_URL: url, SECRET_KEY: randomBytes(32).toString('hex'), CONTRACTS: contract, PORT: '0' }
  const child = spawn(process.execPath, [join(import.meta.dirname, '../../src/server.ts')], {
    env: { PATH: process.env['PATH'], ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = once(child, 'close')
  let output = ''
  const listening = new Promise<string>((resolve, reject) => {
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString()
      const address = /Server listening at (http:[^"]+)"/.exec(output)?.[1]
      if (address !== undefined) resolve(address)
    })
    child.on('close', () => reject(new Error(output)))
  })
  return {
    base: await listening,
    stop: async () => {
      child.kill('SIGTERM')
      await exited
    },
  }
}

/** Makes a database for each service, and drops them all in the end. */
async function startDatabase() {
  const given = process.env['DATABASE_URL']
  const folder = given ? undefined : await mkdtemp(join(tmpdir(), 'latchkey-seeds-'))
  // As root, Postgres runs as another user, who has to get through.
  if (folder) await chmod(folder, 0o755)
  const embedded = folder && (await startEmbeddedPostgres({ dataDir: join(folder, 'postgres') }))
  const server = given ?? (embedded ? embedded.url : '')
  const admin = connectAlone(server)
  const names: string[] = []
  return {
    create: async () => {
      const name = `latchkey_seeds_${randomBytes(6).toString('hex')}`
      await admin.unsafe(`create database ${name}`)
      names.push(name)
      return databaseUrl(server, name)
    },
    stop: async () => {
      for (const name of names) await admin.unsafe(`drop database ${name} with (force)`)
      await admin.end()
      if (embedded) await embedded.stop()
      if (folder) await rm(folder, { recursive: true, force: true })
    },
  }
}

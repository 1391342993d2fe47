import { randomBytes, randomUUID } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { hash, verify } from '@node-rs/argon2'
import formbody from '@fastify/formbody'
import { sql } from 'drizzle-orm'
import fastify from 'fastify'
import postgres from 'postgres'
import { statement, valuesOf } from '#src/db/statement.ts'
import { rotateRefreshToken } from '#src/features/sessions/rotation.sql.ts'
import { insertSession } from '#src/features/sessions/sessions.sql.ts'
import { accountColumns, userByUsername } from '#src/features/accounts/accounts.sql.ts'
import { benchPassword } from './load.ts'
import { digestOfHead, type Head } from './rows.ts'

/** Where the limits run and on which sessions. */
export interface LimitSettings {
  readonly url: string
  readonly poolSize: number
  readonly heads: readonly Head[]
}

/** As long as a real one, so that both replies cost the network the same. */
const accessToken = 'x'.repeat(420)
const refreshToken = 'x'.repeat(72)

interface Owner {
  readonly id: number
  readonly passwordHash: string
  readonly sessionEpoch: number
}

/** As the service opens a session. */
const sessionOptions = {
  ip: '127.0.0.1',
  userAgent: null,
  requestId: randomUUID(),
  // As the driver writes an array; this pool is a bare one.
  amr: '{pwd}',
  sessionSeconds: 2_592_000,
  refreshSeconds: 604_800,
  sessionsPerUser: 100,
}

/** The SELECT that an authenticated request needs, for one session. */
export const sessionState = statement<{ sessionId: string; userId: number }, object>(
  ($) => sql`
  select ${accountColumns('u')}, s.revoked_at is not null or s.epoch <> u.session_epoch as revoked, s.expires_at <= now() as expired
  from sessions s join users u on u.id = s.user_id
  where s.id = ${$.sessionId} and s.user_id = ${$.userId}`,
  {},
)

/** Serves the bare counterparts of the routes at the same paths; resolves to the port. */
async function serveLimits({ url, poolSize, heads }: LimitSettings): Promise<number> {
  const run = connect(url, poolSize)
  const app = fastify()
  app.get('/health', async () => ({ status: 'ok' }))

  let turn = 0
  const next = () => heads[turn++ % heads.length] as Head
  const select = async () => {
    const { id: sessionId, userId } = next()
    return run(sessionState, { sessionId, userId })
  }
  app.get('/api/v1/me', select)
  app.post('/api/v1/validate', select)

  // Out of the queue while it is being moved: under load one may take longer than all the others' turns.
  const queue = heads.map((head) => ({ sessionId: head.id, generation: head.generation, digest: digestOfHead(head) }))
  const salt = randomBytes(16)
  const successorDigest = randomBytes(32)
  app.post('/api/v1/refresh', async () => {
    const head = queue.shift()
    if (!head) throw new Error('every head is being moved')
    const moved = await run(rotateRefreshToken, { ...head, salt, successorDigest, refreshSeconds: 604_800 })
    if (!moved) throw new Error('the head was not moved')
    queue.push({ ...head, generation: head.generation + 1, digest: successorDigest })
    return { access_token: accessToken, refresh_token: refreshToken, token_type: 'bearer', expires_in: 1800 }
  })

  await app.register(formbody)
  app.post('/api/v1/token', async ({ body }) => {
    const user = (await run(userByUsername, { name: (body as { username: string }).username })) as unknown as Owner
    if (!(await verify(user.passwordHash, benchPassword))) throw new Error('not the password')
    const [sessionId, digest] = [randomUUID(), randomBytes(32)]
    await run(insertSession, { ...sessionOptions, sessionId, userId: user.id, epoch: user.sessionEpoch, digest })
    return { access_token: accessToken, refresh_token: refreshToken, token_type: 'bearer', expires_in: 1800 }
  })

  app.get('/argon2/:seconds', async (request) => verifyFor(Number((request.params as { seconds: string }).seconds)))
  return Number(new URL(await app.listen({ host: '127.0.0.1', port: 0 })).port)
}

/** Bare postgres.js with the options of `src/db/database.ts` that count; `max_pipeline` and all else as they come. */
function connect(text: string, max: number) {
  const url = new URL(text)
  const host = url.searchParams.get('host')
  url.searchParams.delete('host')
  const options = { max, fetch_types: false, onnotice: () => {} }
  const pool = postgres(url.href, host === null ? options : { ...options, host })
  return async (query: { text: string; names: readonly string[] }, input: Record<string, unknown>) =>
    (await pool.unsafe(query.text, valuesOf(query, input), { prepare: true }))[0]
}

/** Raw argon2id checks as many at once as the service's gate lets through; per second. */
async function verifyFor(seconds: number): Promise<{ perSecond: number; width: number }> {
  const width = gateWidth()
  const stored = await hash('a password', { memoryCost: 19_456, timeCost: 2, parallelism: 1 })
  const start = performance.now()
  let done = 0
  const lane = async () => {
    while (performance.now() - start < seconds * 1000) {
      await verify(stored, 'a password')
      done++
    }
  }
  await Promise.all(Array.from({ length: width }, lane))
  return { perSecond: (done * 1000) / (performance.now() - start), width }
}

/** As `makePasswords` computes it. */
export function gateWidth(): number {
  return Math.max(1, Math.min(availableParallelism(), Number(process.env['UV_THREADPOOL_SIZE'] ?? 4) - 1))
}

if (import.meta.main)
  process.once('message', (settings: LimitSettings) => {
    process.once('disconnect', () => process.exit())
    void serveLimits(settings).then((port) => process.send?.(port))
  })

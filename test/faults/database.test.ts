import { setTimeout } from 'node:timers/promises'
import { sql as template } from 'drizzle-orm'
import { describe, expect, test } from 'vitest'
import { Database } from '#src/db/database.ts'
import { statement } from '#src/db/statement.ts'
import { Problem } from '#src/problem.ts'
import { type Actor, form, formOf, password, post, type Reply, signedUp } from '#test/support/actors.ts'
import { runAdminProcess } from '#test/support/admin.ts'
import { cleanUp, testBeside } from '#test/support/clean-up.ts'
import { onDatabase, send, startServer } from '#test/support/process.ts'
import { proxyTo } from '#test/support/proxy.ts'
import { cloneDatabase, startService } from '#test/support/service.ts'

const database = await cloneDatabase()
const { app } = await startService({}, database)
const wait = statement<{ seconds: number }, unknown>(($) => template`select pg_sleep(${$.seconds}::float)`, {})
/** What every request is promised. */
const promisedMs = 3000
/** For as long as a busy machine may stand still. */
const stallMs = 2000

const open = (url: string, size: number, onProblem?: (message: string) => void) => {
  const db = new Database(url, size, onProblem)
  cleanUp(() => db.close(0))
  return db
}
const causeOf = (error: unknown) => (error instanceof Problem ? [error.code, error.cause] : error)
const codeOf = (reply: Reply) => (reply.statusCode === 200 ? 'ok' : reply.json<{ code: string }>().code)

/** So many statements of this database that match are under way, or wait for a lock. */
async function untilActive(count: number, pattern: string, { locked = false } = {}): Promise<void> {
  for (;;) {
    // Within a transaction the view stands still.
    await database.sql`select pg_stat_clear_snapshot()`
    const rows = await database.sql`
      select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
        and (wait_event_type = 'Lock' or state = 'active' and not ${locked}::boolean) and query like ${pattern}`
    if (rows.length >= count) return
  }
}

describe('a process that stands still', () => {
  test('takes no answer that came meanwhile for a dead database', async () => {
    const problems: string[] = []
    const db = open(database.url, 4, (message) => problems.push(message))
    // The server counts the time between describing a statement and running it, too.
    await Promise.all([1, 2, 3, 4].map(() => db.rows(wait, { seconds: 0.1 })))
    const running = [1, 2, 3, 4].map(() => db.rows(wait, { seconds: 1 }))
    const late = db.rows(wait, { seconds: 0 })
    const all = Promise.all([...running, late])
    all.catch(() => {})
    await untilActive(4, '%pg_sleep%')
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2700)
    expect(await all).toHaveLength(5)
    expect(problems).toEqual([])
  })

  test('because it was stopped answers what it had begun', async () => {
    const server = startServer(onDatabase(database.url))
    const { tokens, userId } = await signedUp((await startService({}, database)).app)
    const base = await server.listening
    await database.sql.unsafe(`begin; select from sessions where user_id = ${userId} for update`)
    const refreshed = send(`${base}/api/v1/refresh`, { refresh_token: tokens.refresh_token })
    // Not while it is only being described: that counts to its time limit.
    await untilActive(1, '%successor_salt%', { locked: true })
    server.child.kill('SIGSTOP')
    await database.sql`rollback`
    // As long as the fault is to last.
    await setTimeout(promisedMs)
    server.child.kill('SIGCONT')
    expect((await refreshed).status).toBe(200)
  })
})

describe.concurrent('a database whose every answer takes a second', () => {
  const slow = async () => {
    const wire = await proxyTo(database)
    const service = await startService({ DATABASE_POOL_SIZE: '1' }, { url: wire.url, sql: database.sql })
    const actor = await signedUp(service.app)
    /** Acts over the slow wire; resolves to the reply that came in time. */
    const slowly = async (act: () => Promise<Reply>) => {
      wire.delay(1000)
      const started = performance.now()
      const reply = await act()
      const ms = performance.now() - started
      wire.delay(0)
      expect(ms).toBeLessThan(promisedMs + hashingMs)
      return reply
    }
    return { actor, slowly }
  }
  /** Of the passwords of one request on a busy machine. */
  const hashingMs = 4000
  const logInWith = (actor: Actor, secret: string) =>
    post(app, '/api/v1/token', formOf({ username: actor.email, password: secret }), form)

  for (const kind of ['prepared', 'new'])
    testBeside(`answers within the promised time on a ${kind} connection`, async () => {
      const { actor, slowly } = await slow()
      if (kind === 'prepared') for (const act of [actor.me, actor.logIn, () => actor.refresh()]) await act()
      const once = await actor.refresh()
      const acts: Record<string, () => Promise<Reply>> = {
        me: () => actor.me(),
        'log in': () => actor.logIn(),
        'refresh again': () => actor.refresh(),
        'change the password': () =>
          actor.send('POST', '/me/password', { current_password: password, new_password: 'another battery staple' }),
        'delete the account': () => actor.send('DELETE', '/me', { password }),
      }
      expect(once.statusCode).toBe(200)
      for (const [name, act] of Object.entries(acts)) {
        const reply = await slowly(act)
        expect([name, reply.statusCode === 503 ? 200 : reply.statusCode]).toEqual([name, 200])
      }
    })

  testBeside('begins no change whose outcome it could not tell: what is a plain 503 has not happened', async () => {
    const { actor, slowly } = await slow()
    const changed = { current_password: password, new_password: 'another battery staple' }
    for (const act of [
      () => actor.send('POST', '/me/password', changed),
      () => actor.send('DELETE', '/me', { password }),
    ]) {
      const reply = await slowly(act)
      expect([reply.statusCode, codeOf(reply)]).toEqual([503, 'unavailable'])
      expect((await logInWith(actor, password)).statusCode).toBe(200)
    }
  })
})

describe.concurrent('a proxy that takes connections and closes them', () => {
  testBeside('is not besieged, ends every request in time, and is forgiven at once', async () => {
    const proxy = await proxyTo(database)
    const { app: service } = await startService({ DATABASE_POOL_SIZE: '4' }, { url: proxy.url, sql: database.sql })
    const { me } = await signedUp(service)
    proxy.refuse(true)
    const before = proxy.connects
    const started = performance.now()
    const statuses = new Set<number>()
    for (let round = 0; round < 5; round++)
      for (const reply of await Promise.all(Array.from({ length: 20 }, me))) statuses.add(reply.statusCode)
    const seconds = (performance.now() - started) / 1000
    expect([...statuses]).toEqual([503])
    // Each of the pool may try once in a pause; the first pauses are shorter.
    expect(proxy.connects - before).toBeLessThanOrEqual(4 * (seconds / 0.5 + 5))
    proxy.refuse(false)
    expect((await me()).statusCode).toBe(200)
  })

  testBeside('ends a command with a sentence', async () => {
    const proxy = await proxyTo(database)
    proxy.refuse(true)
    const { code, stderr } = await runAdminProcess(proxy.url, ['migrate'])
    expect([code, stderr]).toEqual([1, expect.stringContaining('takes connections and closes them')])
    expect(proxy.connects).toBeLessThan(10)
  })
})

describe.concurrent('a proxy that takes connections and says nothing', () => {
  testBeside('ends a command with a sentence', async () => {
    const proxy = await proxyTo(database)
    proxy.mute(true)
    const { code, stderr } = await runAdminProcess(proxy.url, ['migrate'])
    expect([code, stderr]).toEqual([1, expect.stringContaining('did not answer within 10 seconds')])
  })
})

describe('a black hole under load', () => {
  test('is a 503 in time and nothing else, and over within 5 seconds after its end; nothing lingers', async () => {
    const proxy = await proxyTo(database)
    const { app: service } = await startService({ DATABASE_POOL_SIZE: '4' }, { url: proxy.url, sql: database.sql })
    const actors = await Promise.all(Array.from({ length: 8 }, () => signedUp(service)))
    const tokens = actors.map(({ tokens }) => tokens.refresh_token)
    const round = () =>
      Promise.all(
        actors.flatMap(({ me, refresh }, i) => [
          timed(me),
          timed(async () => {
            const reply = await refresh(tokens[i])
            if (reply.statusCode === 200) tokens[i] = reply.json<{ refresh_token: string }>().refresh_token
            return reply
          }),
        ]),
      )
    await round()
    proxy.hold(true)
    const during = []
    for (let i = 0; i < 4; i++) during.push(...(await round()))
    proxy.hold(false)
    expect([...new Set(during.map(({ status }) => status))]).toEqual([503])
    expect(Math.max(...during.map(({ ms }) => ms))).toBeLessThan(promisedMs + stallMs)

    const ended = performance.now()
    const after: number[] = []
    for (let statuses: number[] = [503]; statuses.includes(503);) {
      statuses = (await round()).map(({ status }) => status)
      after.push(...statuses)
    }
    expect(performance.now() - ended).toBeLessThan(5000 + stallMs)
    expect(after.filter((status) => status !== 200 && status !== 503)).toEqual([])
    await service.close()
    for (; proxy.open > 0;) await setTimeout(10)
  })
})

async function timed(act: () => Promise<Reply>): Promise<{ status: number; ms: number }> {
  const started = performance.now()
  const { statusCode } = await act()
  return { status: statusCode, ms: performance.now() - started }
}

describe('what a database in trouble says', () => {
  const raise = statement<{ code: string }, unknown>(($) => template`select complain(${$.code})`, {})

  test.each([
    '53100',
    '53200',
    '53300',
    '25006',
    '57P03',
    '57P01',
    '58030',
    '26000',
    '08P01',
    '42P05',
    '40001',
    'XX000',
  ])('with %s is a 503, and neither a verdict nor a defect', async (code) => {
    await database.sql.unsafe(`create or replace function complain(code text) returns void language plpgsql as $$
        begin raise exception using errcode = code; end $$`)
    const db = open(database.url, 1)
    await expect(db.rows(raise, { code }).catch(causeOf)).resolves.toEqual([
      code === '57P01' ? 'outcome_unknown' : 'unavailable',
      `database: ${code}`,
    ])
    expect(await db.rows(wait, { seconds: 0 })).toHaveLength(1)
  })
})

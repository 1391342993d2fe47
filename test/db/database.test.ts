import { sql as template } from 'drizzle-orm'
import { afterAll, describe, expect, test } from 'vitest'
import { Database } from '#src/db/database.ts'
import { type NoInput, statement } from '#src/db/statement.ts'
import { isUnsupported, violates } from '#src/db/faults.ts'
import { Problem } from '#src/problem.ts'
import { get, password, post, signedUp } from '#test/support/actors.ts'
import { cloneDatabase, startService } from '#test/support/service.ts'
import { cleanUp } from '#test/support/clean-up.ts'
import { proxyTo } from '#test/support/proxy.ts'

const database = await cloneDatabase()
const proxy = await proxyTo(database)
const through = { url: proxy.url, sql: database.sql }
// The worker that looks for mail would take the only connection now and then.
const one = await startService({ DATABASE_POOL_SIZE: '1', MAIL_WORKER: 'off' }, through)

const wait = statement<{ seconds: number }, unknown>(($) => template`select pg_sleep(${$.seconds}::float)`, {})
const open = (size: number) => {
  const db = new Database(database.url, size)
  afterAll(() => db.close(0))
  return db
}
const codeOf = (error: unknown) => (error instanceof Problem ? [error.code, error.cause] : error)

describe('a request', () => {
  test('takes the round trips that it must: one to refresh or to ask who it is, two to log in', async () => {
    const { refresh, me, logIn } = await signedUp(one.app)
    const trips = async (act: () => Promise<unknown>) => {
      const before = proxy.roundTrips
      await act()
      return proxy.roundTrips - before
    }
    // The first time a connection prepares a statement it takes one more.
    await Promise.all([refresh(), me()])
    const next = await signedUp(one.app)
    expect(await trips(() => next.refresh())).toBe(1)
    expect(await trips(() => next.me())).toBe(1)
    expect(await trips(() => logIn())).toBe(2)
    expect(await trips(() => post(one.app, '/api/v1/refresh', { refresh_token: 'not one' }))).toBe(0)
  })
})

describe('a database that takes connections and says nothing', () => {
  test('is a 503 within 3 seconds, and works again when it answers', async () => {
    const { me, refresh } = await signedUp(one.app)
    proxy.mute(true)
    const started = performance.now()
    const replies = await Promise.all([me(), refresh(), get(one.app, '/ready')])
    proxy.mute(false)
    expect(performance.now() - started).toBeLessThan(3000)
    expect(replies.map(({ statusCode, headers }) => [statusCode, headers['retry-after']])).toEqual(
      Array.from({ length: 3 }, () => [503, '2']),
    )
    expect((await refresh()).statusCode).toBe(200)
    expect((await me()).statusCode).toBe(200)
  })
})

describe('a database that says nothing any more and takes no connections', () => {
  test('cannot be told to cancel a statement, which is no fault of the process', async () => {
    const gone = await proxyTo(database)
    const { app } = await startService({}, { url: gone.url, sql: database.sql })
    const { me } = await signedUp(app)
    const faults: unknown[] = []
    const note = (fault: unknown) => void faults.push(fault)
    process.on('unhandledRejection', note)
    cleanUp(() => process.off('unhandledRejection', note))
    gone.hold(true)
    gone.stopListening()
    expect((await me()).statusCode).toBe(503)
    expect(faults).toEqual([])
  })
})

describe('connections that are cut', () => {
  test('after the commit are no theft: the service knows its own successor, also without a window', async () => {
    const { app } = await startService({ DATABASE_POOL_SIZE: '1', REFRESH_GRACE_SECONDS: '0' }, through)
    const { me, refresh } = await signedUp(app)
    // The statement is prepared by the first.
    const { refresh_token: token } = (await refresh()).json<{ refresh_token: string }>()
    proxy.loseAnswer()
    const reply = await refresh(token)
    expect([reply.statusCode, (await me()).statusCode]).toEqual([200, 200])
    expect((await refresh(reply.json<{ refresh_token: string }>().refresh_token)).statusCode).toBe(200)
  })

  test('are not noticed by who reads or refreshes', async () => {
    const { me, refresh } = await signedUp(one.app)
    for (const act of [me, refresh]) {
      proxy.cut()
      expect((await act()).statusCode).toBe(200)
    }
  })

  test('as soon as they are made are a 503 within 3 seconds, until they no longer are', async () => {
    const { me } = await signedUp(one.app)
    proxy.refuse(true)
    const started = performance.now()
    const reply = await me()
    const seconds = (performance.now() - started) / 1000
    proxy.refuse(false)
    expect([reply.statusCode, seconds < 3]).toEqual([503, true])
    expect((await me()).statusCode).toBe(200)
  })
})

describe('a statement', () => {
  test('that takes too long is ended by the server, and the pool is free again', async () => {
    const db = open(1)
    const started = performance.now()
    await expect(db.rows(wait, { seconds: 60 }).catch(codeOf)).resolves.toEqual(['unavailable', 'database: 57014'])
    expect(performance.now() - started).toBeLessThan(2300)
    expect(await db.rows(wait, { seconds: 0 })).toHaveLength(1)
    expect([db.inUse, db.queued]).toEqual([0, 0])
  })

  test('that finds no connection free waits its turn, 100 for each, and beyond that is refused at once', async () => {
    const db = open(1)
    const running = db.rows(wait, { seconds: 1.2 })
    const others = Array.from({ length: 102 }, () => db.rows(wait, { seconds: 0 }).catch(codeOf))
    expect([db.inUse, db.queued]).toEqual([1, 100])
    const outcomes = (await Promise.all(others)).map((outcome) => String(outcome))
    const count = (text: string) => outcomes.filter((outcome) => outcome === text).length
    expect([count('unavailable,database: POOL_QUEUE_FULL'), count('unavailable,database: POOL_QUEUE_TIMEOUT')]).toEqual(
      [2, 100],
    )
    await running
    expect([db.inUse, db.queued]).toEqual([0, 0])
  })

  test.each([
    ['40001', 'unavailable'],
    ['40P01', 'unavailable'],
    // A prepared statement that a pooler has lost, again after the driver has prepared it anew.
    ['26000', 'unavailable'],
    ['0A000', 'a mistake of ours'],
  ])('that the server rolled back (%s) is sent again, once, and then is %s', async (code, outcome) => {
    const db = open(1)
    await database.sql.unsafe(`
      create sequence attempts_${code};
      create function falter_${code}(failures integer) returns bigint language plpgsql as $$
      declare attempt bigint := nextval('attempts_${code}');
      begin
        if attempt <= failures then raise exception sqlstate '${code}'; end if;
        return attempt;
      end $$`)
    const falter = (failures: number) =>
      statement<NoInput, { attempt: string }>(() => template.raw(`select falter_${code}(${failures}) as attempt`), {
        attempt: 'int8',
      })
    expect(await db.row(falter(1), {})).toEqual({ attempt: '2' })
    const failed: unknown = await db.row(falter(99), {}).catch(codeOf)
    if (outcome === 'unavailable') expect(failed).toEqual([outcome, `database: ${code}`])
    else expect(failed).toMatchObject({ code })
    expect(await db.row(falter(0), {})).toEqual({ attempt: '5' })
  })

  test('that the server cannot run at all is told from one whose plan has changed', async () => {
    const { sql } = database
    const session = await sql.reserve()
    const faultOf = (text: string) => session.unsafe(text).then(String, (error: unknown) => error)
    await session.unsafe('create table changing (a integer); prepare changed as select * from changing')
    await session.unsafe('alter table changing add b integer')
    const changed = await faultOf('execute changed')
    const unsupported = await faultOf('select a from changing group by a for update')
    session.release()
    expect([changed, unsupported]).toMatchObject([{ code: '0A000' }, { code: '0A000' }])
    expect([isUnsupported(changed), isUnsupported(unsupported)]).toEqual([false, true])
  })

  test('that breaks a rule of the schema is told by its index', async () => {
    const { email } = await signedUp(one.app)
    const insert = statement<{ email: string }, never>(
      ($) => template`insert into users (email) values (${$.email})`,
      {},
    )
    const error: unknown = await open(1)
      .rows(insert, { email })
      .catch((reason: unknown) => reason)
    expect([violates(error, 'users_email_key'), violates(error, 'users_username_key')]).toEqual([true, false])
    const ofPart = Object.assign(error as Error, { constraint_name: undefined })
    ofPart.message = ofPart.message.replace('users_email_key', 'users_email_key_102008')
    expect([violates(ofPart, 'users_email_key'), violates(ofPart, 'users_username_key')]).toEqual([true, false])
    expect(violates(new Error('23505'), 'users_email_key')).toBe(false)
  })
})

describe('a connection that is slow to make', () => {
  test('is no reason to cut what runs on others', async () => {
    const problems: string[] = []
    const db = new Database(proxy.url, 3, (message) => problems.push(message))
    cleanUp(() => db.close(0))
    await Promise.all([1, 2].map(() => db.rows(wait, { seconds: 0.1 })))
    proxy.admitLate(900)
    const long = () => db.rows(wait, { seconds: 1.6 })
    const running = [1, 2].map(() => long().then(long))
    await db.rows(wait, { seconds: 1.7 }).catch(codeOf)
    proxy.admitLate(0)
    expect(await Promise.all(running)).toHaveLength(2)
    expect(problems).toEqual([])
  })
})

describe('a pool that has been closed', () => {
  test('begins nothing any more', async () => {
    const db = new Database(database.url, 1)
    await db.rows(wait, { seconds: 0 })
    await db.close()
    await expect(db.rows(wait, { seconds: 0 }).catch(codeOf)).resolves.toEqual([
      'unavailable',
      'database: CONNECTION_ENDED',
    ])
  })
})

describe('a login that nobody could answer', () => {
  test('is counted as unavailable', async () => {
    const { email } = await signedUp(one.app)
    proxy.refuse(true)
    const reply = await post(one.app, '/api/v1/token', { username: email, password })
    proxy.refuse(false)
    expect(reply.statusCode).toBe(503)
    expect((await get(one.app, '/metrics')).body).toContain('auth_logins_total{outcome="unavailable"} 1')
  })
})

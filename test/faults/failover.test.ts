import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { sql } from 'drizzle-orm/sql'
import type { FastifyInstance } from 'fastify'
import type postgres from 'postgres'
import { describe, expect, test, vi } from 'vitest'
import { connectAlone } from '#src/db/connect-alone.ts'
import { type NoInput, statement } from '#src/db/statement.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '#dev/embedded-postgres/embedded-postgres.ts'
import { password, post, refreshWith, signedUp, type TokenReply } from '#test/support/actors.ts'
import { cleanUp } from '#test/support/clean-up.ts'
import { temporaryFolder } from '#test/support/process.ts'
import { type Proxy, proxyTo } from '#test/support/proxy.ts'
import { startService } from '#test/support/service.ts'

/** A Postgres of its own behind an address of its own, and a connection past that. */
interface Server {
  readonly postgres: EmbeddedPostgres
  readonly proxy: Proxy
  readonly sql: postgres.Sql
}

async function start(dataDir: string, settings: Record<string, string> = {}): Promise<Server> {
  const postgres = await startEmbeddedPostgres({ dataDir, settings })
  cleanUp(postgres.stop)
  const proxy = await proxyTo(postgres)
  const sql = connectAlone(postgres.url)
  cleanUp(() => sql.end({ timeout: 0 }))
  return { postgres, proxy, sql }
}

/** A primary, and a standby that streams from it. */
async function startPair(): Promise<{ primary: Server; standby: Server; url: string }> {
  const folder = await temporaryFolder()
  const [first, second] = [join(folder, 'first'), join(folder, 'second')]
  await (await startEmbeddedPostgres({ dataDir: first })).stop()
  // With its owner, whom Postgres runs as; what the signal file holds does not matter.
  execFileSync('cp', ['--archive', first, second])
  execFileSync('cp', ['--archive', join(second, 'PG_VERSION'), join(second, 'standby.signal')])
  const primary = await start(first)
  const { searchParams, username } = new URL(primary.postgres.url)
  const upstream = `host=${searchParams.get('host')} user=${username}`
  const standby = await start(second, { primary_conninfo: upstream })
  const hosts = [new URL(standby.proxy.url).host, new URL(primary.proxy.url).host]
  return { primary, standby, url: namedTogether(standby.proxy.url, hosts) }
}

const ownProcess = statement<NoInput, { pid: number }>(() => sql`select pg_backend_pid() as pid`, { pid: 'int4' })

const namedTogether = (url: string, hosts: readonly string[]) => url.replace(new URL(url).host, hosts.join())

const registration = (app: FastifyInstance) =>
  post(app, '/api/v1/users/', { email: `${randomUUID()}@example.com`, password })

const change = async ({ sql }: Server, setting: string) => {
  await sql.unsafe(`alter system ${setting}`)
  await sql`select pg_reload_conf()`
}

/** Resolves when commits wait for a standby that there is not; each process of the server learns of it in its own time. */
async function requireStandby(server: Server): Promise<void> {
  const { postgres, sql } = server
  const writer = connectAlone(postgres.url)
  await change(server, "set synchronous_standby_names = 'nobody'")
  await vi.waitUntil(async () => {
    let isDone = false
    const writing = writer`select pg_logical_emit_message(true, 'trial', '')`.then(() => (isDone = true))
    const waiting = () => sql`select pid from pg_stat_activity where wait_event = 'SyncRep'`
    await vi.waitUntil(async () => isDone || (await waiting()).length > 0, 20_000)
    const isWaiting = !isDone
    if (isWaiting) await sql`select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'`
    await writing
    return isWaiting
  }, 30_000)
  await writer.end({ timeout: 0 })
}

describe('a primary with a standby, both in DATABASE_URL, the standby first', () => {
  test('is found at the start and by every connection, and after a failover the other is: no session is lost', async () => {
    const { primary, standby, url } = await startPair()
    const { app } = await startService({}, { url, sql: primary.sql })
    const { tokens, refresh } = await signedUp(app)
    const held = (await refresh()).json<TokenReply>().refresh_token
    const { lsn } = (await primary.sql<{ lsn: string }[]>`select pg_current_wal_lsn()::text as lsn`)[0] ?? { lsn: '' }
    await vi.waitUntil(async () => {
      const [row] = await standby.sql<{ there: boolean }[]>`select pg_last_wal_replay_lsn() >= ${lsn}::pg_lsn as there`
      return row?.there
    }, 20_000)

    await primary.postgres.stop()
    const during = await refreshWith(app, held)
    expect([during.statusCode, during.headers['retry-after'], during.json<{ code: string }>().code]).toEqual([
      503,
      '2',
      'unavailable',
    ])
    await standby.sql`select pg_promote()`
    const after = await vi.waitUntil(async () => {
      const reply = await refreshWith(app, held)
      expect([200, 503]).toContain(reply.statusCode)
      return reply.statusCode === 200 && reply
    }, 20_000)
    expect(after.json<TokenReply>().refresh_token).not.toBe(held)
    expect((await refreshWith(app, after.json<TokenReply>().refresh_token)).statusCode).toBe(200)
    expect(tokens.refresh_token).not.toBe(held)
  })
})

describe('several hosts at the start', () => {
  test('one that says nothing and one that refuses are passed over', async () => {
    const server = await start(join(await temporaryFolder(), 'data'))
    const silent = await proxyTo(server.postgres)
    silent.mute(true)
    const hosts = [new URL(silent.url).host, '127.0.0.1:1', new URL(server.proxy.url).host]
    const { app } = await startService({}, { url: namedTogether(server.proxy.url, hosts), sql: server.sql })
    expect((await registration(app)).statusCode).toBe(201)
  })

  test('a standby alone is refused, and so are several of which none answers', async () => {
    const { standby } = await startPair()
    const only = `${standby.proxy.url}?target_session_attrs=primary`
    await expect(connectAlone(only)`select 1`).rejects.toMatchObject({ code: 'CONNECTED_TO_STANDBY' })
    const nobody = namedTogether(standby.proxy.url, ['127.0.0.1:1', '127.0.0.1:2'])
    await expect(connectAlone(nobody)`select 1`).rejects.toMatchObject({ code: 'ECONNREFUSED' })
  })
})

describe('a database that', () => {
  const startOne = async () => {
    const server = await start(join(await temporaryFolder(), 'data'))
    const { app } = await startService({}, { url: server.proxy.url, sql: server.sql })
    return { server, app }
  }

  test('only reads from now on gets new connections at once, in case that the primary is elsewhere', async () => {
    const { server, app } = await startOne()
    const { refresh } = await signedUp(app)
    const connects = server.proxy.connects
    await change(server, 'set default_transaction_read_only = on')
    await vi.waitUntil(
      async () => (await server.sql`show transaction_read_only`)[0]?.['transaction_read_only'] === 'on',
      20_000,
    )
    const refused = await refresh()
    expect([refused.statusCode, refused.json<{ code: string }>().code]).toEqual([503, 'unavailable'])
    expect(server.proxy.connects).toBeGreaterThan(connects)
    // Once is enough: it goes on to serve who only reads.
    const replaced = server.proxy.connects
    for (let again = 0; again < 3; again++) await refresh()
    expect(server.proxy.connects - replaced).toBeLessThanOrEqual(2)
    await change(server, 'reset default_transaction_read_only')
    await vi.waitUntil(async () => (await refresh()).statusCode === 200, 20_000)
  })

  test('only reads from now on keeps no connection of before, also none that was busy then', async () => {
    const { server, app } = await startOne()
    const [first, second] = [await signedUp(app), await signedUp(app)]
    const waiting = () => server.sql`select from pg_stat_activity where wait_event_type = 'Lock'`
    const holder = connectAlone(server.postgres.url)
    await holder`begin`
    await holder`select from sessions where user_id = ${first.userId} for update`
    const busy = first.refresh()
    await expect.poll(waiting).toHaveLength(1)
    const before = await server.sql<{ pid: number }[]>`
      select pid from pg_stat_activity where application_name = 'latchkey'`
    await change(server, 'set default_transaction_read_only = on')
    await vi.waitUntil(async () => (await second.refresh()).statusCode === 503, 20_000)
    await holder.end({ timeout: 0 })
    await busy
    const now = await app.db.row(ownProcess, {})
    expect(before.map(({ pid }) => pid)).not.toContain(now?.pid)
  })

  test('could not replicate a commit as asked has not done it: 503, and never a success', async () => {
    const { server, app } = await startOne()
    const { refresh, logOut, tokens } = await signedUp(app)
    await requireStandby(server)
    const [refreshed, changed] = await Promise.all([refresh(), registration(app)])
    expect([refreshed.statusCode, refreshed.json<{ code: string }>().code]).toEqual([503, 'unavailable'])
    expect([changed.statusCode, changed.json<{ code: string }>().code]).toEqual([503, 'outcome_unknown'])
    await change(server, 'reset synchronous_standby_names')
    expect((await refreshWith(app, tokens.refresh_token)).statusCode).toBe(200)
    expect((await logOut()).statusCode).toBe(204)
  })
})

describe('a rotation or logout that was committed while no standby was there', () => {
  test('is told to nobody until one is: a retry waits as the first did, because a failover would take it back', async () => {
    const server = await start(join(await temporaryFolder(), 'data'))
    const { app } = await startService({}, { url: server.proxy.url, sql: server.sql })
    const [refreshing, late, leaving] = [await signedUp(app), await signedUp(app), await signedUp(app)]
    await requireStandby(server)
    const statuses = async () => {
      const replies = [refreshing.refresh(), late.refresh(), leaving.logOut('local')]
      return (await Promise.all(replies)).map(({ statusCode }) => statusCode)
    }
    expect(await statuses()).toEqual([503, 503, 503])
    await server.sql`set synchronous_commit = local`
    await server.sql`
      update refresh_tokens set issued_at = issued_at - interval '1 minute'
      where session_id in (select id from sessions where user_id = ${late.userId})`
    // What the first attempts did is there to be read, and was seen by nobody.
    const seen = await server.sql`select generation, revoked_at is not null as ended from sessions order by user_id`
    expect(seen.map(({ generation, ended }) => [generation, ended])).toEqual([
      [1, false],
      [1, false],
      [0, true],
    ])
    expect(await statuses()).toEqual([503, 503, 503])
    // The late retry is noted by now.
    expect(await statuses()).toEqual([503, 503, 503])
    await change(server, 'reset synchronous_standby_names')
    await vi.waitUntil(async () => (await statuses()).every((status) => status < 300), 20_000)
    expect(await statuses()).toEqual([200, 200, 204])
  })
  test('also the end of one session that was chosen from the list', async () => {
    const server = await start(join(await temporaryFolder(), 'data'))
    const { app } = await startService({}, { url: server.proxy.url, sql: server.sql })
    const [{ send, logIn }, stranger] = [await signedUp(app), await signedUp(app)]
    await logIn()
    const listed = (await send('GET', '/me/sessions')).json<{ id: string; current: boolean }[]>()
    const path = `/me/sessions/${listed.find(({ current }) => !current)?.id}`
    await requireStandby(server)
    const end = async (by = send) => (await by('DELETE', path)).statusCode
    expect([await end(), await end(), await end(stranger.send)]).toEqual([503, 503, 404])
    await change(server, 'reset synchronous_standby_names')
    await vi.waitUntil(async () => (await end()) === 404, 20_000)
  })
})

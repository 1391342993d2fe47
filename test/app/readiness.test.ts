import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest'
import { onceASecond } from '#src/once-a-second.ts'
import { get, type Reply, signedUp } from '#test/support/actors.ts'
import { cloneDatabase, startService } from '#test/support/service.ts'

describe('/ready', () => {
  test('answers while every connection of the pool is taken and others wait for one', async () => {
    const { app, sql } = await startService({ DATABASE_POOL_SIZE: '1' })
    const { refresh, userId } = await signedUp(app)
    const readyWhileBusy = async () => {
      const busy = Array.from({ length: 50 }, () => refresh())
      await vi.waitUntil(() => app.db.queued > 0, { interval: 1, timeout: 10_000 })
      const { statusCode } = await get(app, '/ready')
      await Promise.all(busy)
      return statusCode
    }
    await sql.begin(async (tx) => {
      await tx`select from sessions where user_id = ${userId} for update`
      await expect.poll(readyWhileBusy, { timeout: 30_000 }).toBe(200)
    })
  })

  test('asks the database once for all who ask at the same moment', async () => {
    const { app, sql } = await startService()
    const replies: Promise<Reply>[] = []
    await sql.begin(async (tx) => {
      await tx`lock table users in access exclusive mode`
      replies.push(...Array.from({ length: 200 }, () => get(app, '/ready')))
      const waiting = () => tx`select from pg_locks where not granted and relation = 'users'::regclass`
      await expect.poll(waiting).toHaveLength(1)
      // The one is there, and no second one comes.
      await get(app, '/health')
      expect(await waiting()).toHaveLength(1)
    })
    expect(new Set((await Promise.all(replies)).map(({ statusCode }) => statusCode))).toEqual(new Set([200]))
  })

  test('is a 503 while the service is leaving, which is alive still and keeps no connection', async () => {
    const { app } = await startService()
    app.startDraining()
    const [ready, health] = [await get(app, '/ready'), await get(app, '/health')]
    expect([ready.statusCode, ready.headers['retry-after']]).toEqual([503, '5'])
    expect([health.statusCode, health.headers['connection']]).toEqual([200, 'close'])
  })

  test.for(['mute', 'refuse'] as const)(
    'is a 503 within 2 seconds at a database that answers nothing (%s), and a 200 once it answers',
    async (fault) => {
      const database = await cloneDatabase()
      const wire = await wireTo(database.url)
      const { app } = await startService({}, { ...database, url: wire.url })
      const ready = async () => {
        const asked = performance.now()
        const { statusCode, headers } = await get(app, '/ready')
        expect(performance.now() - asked).toBeLessThan(2000)
        return [statusCode, headers['retry-after']]
      }
      expect(await ready()).toEqual([200, undefined])
      wire[fault](true)
      await expect.poll(ready).toEqual([503, '2'])
      wire[fault](false)
      await expect.poll(ready).toEqual([200, undefined])
    },
  )
})

describe('auth_ready', () => {
  const scrape = async (app: FastifyInstance) => {
    const asked = performance.now()
    const { statusCode, body } = await get(app, '/metrics')
    // Two seconds, and what a busy machine may stand still for; Prometheus gives up after ten.
    expect(performance.now() - asked).toBeLessThan(5000)
    return [statusCode, /^auth_ready (\d)$/m.exec(body)?.[1]]
  }

  test.for(['mute', 'refuse'] as const)(
    'is 0 in metrics that come in time at a database that answers nothing (%s), and 1 once it answers',
    async (fault) => {
      const database = await cloneDatabase()
      const wire = await wireTo(database.url)
      const { app } = await startService({}, { ...database, url: wire.url })
      expect(await scrape(app)).toEqual([200, '1'])
      wire[fault](true)
      await expect.poll(() => scrape(app)).toEqual([200, '0'])
      wire[fault](false)
      await expect.poll(() => scrape(app)).toEqual([200, '1'])
    },
  )

  test('is 0 while the service is leaving', async () => {
    const { app } = await startService()
    app.startDraining()
    expect(await scrape(app)).toEqual([200, '0'])
  })
})

describe('what is read once a second', () => {
  afterEach(() => vi.useRealTimers())

  test('is one reading for all who ask while it runs, kept for a second after it', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    let readings = 0
    const running = Promise.withResolvers<void>()
    const ask = onceASecond(async () => {
      await running.promise
      return ++readings
    })
    const asked = [ask(), ask()]
    vi.advanceTimersByTime(5000)
    asked.push(ask())
    running.resolve()
    expect(await Promise.all(asked)).toEqual([1, 1, 1])
    vi.advanceTimersByTime(999)
    expect(await ask()).toBe(1)
    vi.advanceTimersByTime(1)
    expect(await ask()).toBe(2)
  })

  test('keeps a failure no longer than an answer', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    let readings = 0
    const ask = onceASecond(async () => {
      if (++readings === 1) throw new Error('away')
      return readings
    })
    await expect(ask()).rejects.toThrow('away')
    await expect(ask()).rejects.toThrow('away')
    vi.advanceTimersByTime(1000)
    expect(await ask()).toBe(2)
  })
})

/** A wire to the database that can swallow what is said on it, or cut whoever connects. */
async function wireTo(url: string) {
  const target = new URL(url)
  const folder = target.searchParams.get('host')
  const place =
    folder === null ? { host: target.hostname, port: Number(target.port || 5432) } : { path: `${folder}/.s.PGSQL.5432` }
  const sockets = new Set<Socket>()
  const state = { muted: false, refusing: false }
  const server = createServer((client) => {
    if (state.refusing) return client.destroy()
    const upstream = connect(place)
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from)
      from.on('data', (chunk: Buffer) => state.muted || to.write(chunk))
      from.on('error', () => {})
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const cut = () => sockets.forEach((socket) => socket.destroy())
  afterAll(() => {
    cut()
    server.close()
  })
  target.searchParams.delete('host')
  target.hostname = '127.0.0.1'
  target.port = String((server.address() as { port: number }).port)
  return {
    url: target.href,
    mute: (muted: boolean) => (state.muted = muted),
    refuse: (refusing: boolean) => {
      state.refusing = refusing
      if (refusing) cut()
    },
  }
}

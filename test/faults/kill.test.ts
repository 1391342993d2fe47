import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect } from 'vitest'
import { password } from '#test/support/actors.ts'
import { testBeside } from '#test/support/clean-up.ts'
import { onDatabase, send, startServer, temporaryFolder } from '#test/support/process.ts'
import { cloneDatabase } from '#test/support/service.ts'

/** One client of the storm: it refreshes as long as it is answered, and keeps the last two tokens it received. */
interface Client {
  last: string
  before: string
}

describe.concurrent('7. SIGKILL in the middle of a storm of refreshes', () => {
  testBeside(
    'loses no client: each can refresh with its last token or the one before, and no session has forked',
    async () => {
      const { url, sql } = await cloneDatabase()
      const clients = await makeClients(url, 12)

      for (let round = 0; round < 6; round++) {
        const server = startServer(onDatabase(url))
        const base = await server.listening
        const storm = clients.map((client) => refreshUntilKilled(base, client))
        // Kill it at a different moment each time: after some number of rotations has been committed.
        await rotationsReach(sql, 40 * (round + 1))
        server.child.kill('SIGKILL')
        await once(server.child, 'close')
        await Promise.all(storm)
      }

      const { listening } = startServer(onDatabase(url))
      const base = await listening
      for (const client of clients) {
        const retries = [await refreshOnce(base, client.last), await refreshOnce(base, client.before)]
        expect(retries.map(({ status }) => status)).toContain(200)
      }
      const forks = await sql`
      select s.id from sessions s join refresh_tokens t on t.session_id = s.id
      group by s.id having count(*) filter (where t.generation >= s.generation) <> 1 or max(t.generation) <> max(s.generation)`
      expect(forks).toEqual([])
    },
  )
})

describe.concurrent('kill -9 of the service with its embedded Postgres', () => {
  testBeside('loses nothing: the next start works by itself, and the last token still refreshes', async () => {
    const folder = await temporaryFolder()
    const environment = { DATA_DIR: folder, SWEEP: 'off' }
    const first = startServer(environment)
    const email = `${randomUUID()}@example.com`
    const api = `${await first.listening}/api/v1`
    await send(`${api}/users/`, { email, password })
    const login = await send(`${api}/token`, { username: email, password })
    const refreshed = await refreshOnce(await first.listening, String(login.body['refresh_token']))
    first.child.kill('SIGKILL')
    await once(first.child, 'close')

    const second = startServer(environment)
    const again = await refreshOnce(await second.listening, String(refreshed.body['refresh_token']))
    expect(again.status).toBe(200)
    const me = await send(`${await second.listening}/api/v1/me`, undefined, {
      authorization: `Bearer ${String(login.body['access_token'])}`,
    })
    expect([me.status, me.body['email']]).toEqual([200, email])

    second.child.kill('SIGTERM')
    expect((await second.exited).code).toBe(0)
  })
})

describe.concurrent('kill -9 of the embedded Postgres', () => {
  testBeside(
    'is mended by the service itself: 503 meanwhile, never 401 or 500, then everything is as it was',
    async ({ expect }) => {
      const folder = await temporaryFolder()
      const server = startServer({ DATA_DIR: folder, SWEEP: 'off' })
      const base = await server.listening
      const api = `${base}/api/v1`
      const email = `${randomUUID()}@example.com`
      await send(`${api}/users/`, { email, password })
      const login = await send(`${api}/token`, { username: email, password })
      const authorization = `Bearer ${String(login.body['access_token'])}`

      const postmaster = async () =>
        Number.parseInt(await readFile(join(folder, 'postgres/postmaster.pid'), 'utf8').catch(() => '0'), 10)
      const killed = await postmaster()
      process.kill(killed, 'SIGKILL')
      const statuses = new Set<number>()
      const isBack = async () => {
        const replies = await Promise.all([send(`${base}/ready`), send(`${api}/me`, undefined, { authorization })])
        for (const { status } of replies) statuses.add(status)
        return ![killed, 0].includes(await postmaster()) && replies.every(({ status }) => status === 200)
      }
      await expect.poll(isBack, { interval: 5, timeout: 20_000 }).toBe(true)
      for (const status of statuses) expect([200, 503]).toContain(status)
      const again = await refreshOnce(base, String(login.body['refresh_token']))
      expect(again.status).toBe(200)

      server.child.kill('SIGTERM')
      const { code, output } = await server.exited
      expect(code).toBe(0)
      expect(output).toContain('"msg":"the embedded Postgres has ended and is started again"')
    },
  )
})

async function makeClients(url: string, count: number): Promise<Client[]> {
  const server = startServer(onDatabase(url))
  const api = `${await server.listening}/api/v1`
  const clients = await Promise.all(
    Array.from({ length: count }, async () => {
      const email = `${randomUUID()}@example.com`
      await send(`${api}/users/`, { email, password })
      const token = String((await send(`${api}/token`, { username: email, password })).body['refresh_token'])
      return { last: token, before: token }
    }),
  )
  server.child.kill('SIGTERM')
  await server.exited
  return clients
}

async function refreshUntilKilled(base: string, client: Client): Promise<void> {
  for (;;) {
    const { status, body } = await refreshOnce(base, client.last)
    if (status === 0) return
    // A fault of the moment: the same token again.
    if (status === 503) continue
    expect(status).toBe(200)
    if (body['refresh_token'] === client.last) continue
    client.before = client.last
    client.last = String(body['refresh_token'])
  }
}

function refreshOnce(base: string, token: string) {
  return send(`${base}/api/v1/refresh`, { refresh_token: token })
}

async function rotationsReach(sql: Awaited<ReturnType<typeof cloneDatabase>>['sql'], count: number): Promise<void> {
  for (;;) {
    const [row] = await sql<{ total: number }[]>`select sum(generation)::integer as total from sessions`
    if ((row?.total ?? 0) >= count) return
  }
}

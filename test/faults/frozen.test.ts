import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { describe, expect } from 'vitest'
import { password } from '#test/support/actors.ts'
import { testBeside } from '#test/support/clean-up.ts'
import { onDatabase, send, startServer } from '#test/support/process.ts'
import { cloneDatabase, type TestDatabase } from '#test/support/service.ts'

const clients = 20

interface Client {
  readonly token: string
  /** The connection over which it asked the instance that is frozen. */
  readonly socket: Socket
}

/** A user with a session, and a connection to an instance that is ready for one request. */
async function client(url: string, database: TestDatabase, i: number): Promise<Client> {
  const email = `client-${i}@example.com`
  await send(`${url}/api/v1/users/`, { email, password })
  const { body } = await send(`${url}/api/v1/token`, { username: email, password })
  const { port } = new URL(url)
  const socket = connect(Number(port), '127.0.0.1')
  await once(socket, 'connect')
  await database.sql`select 1`
  return { token: String(body['refresh_token']), socket }
}

/** Sends a refresh whose answer nobody will wait for. */
function ask({ socket, token }: Client): void {
  const body = JSON.stringify({ refresh_token: token })
  const head = `POST /api/v1/refresh HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}`
  socket.write(`${head}\r\n\r\n${body}`)
}

describe('an instance that is frozen with refreshes in its sockets', () => {
  testBeside(
    'ends no session when it wakes, whose client gave up, asked another instance and is generations on',
    async () => {
      const database = await cloneDatabase()
      const [frozen, other] = [startServer(onDatabase(database.url)), startServer(onDatabase(database.url))]
      const [frozenUrl, otherUrl] = [await frozen.listening, await other.listening]
      const all = await Promise.all(Array.from({ length: clients }, (_, i) => client(frozenUrl, database, i)))

      frozen.child.kill('SIGSTOP')
      for (const one of all) ask(one)
      const newest = await Promise.all(
        all.map(async ({ token, socket }) => {
          socket.end()
          let held = token
          for (let done = 0; done < 3;) {
            const { status, body } = await send(`${otherUrl}/api/v1/refresh`, { refresh_token: held })
            if (status === 503) continue
            held = String(body['refresh_token'])
            done++
          }
          return held
        }),
      )
      // The window is over for every one of them when the instance wakes.
      await database.sql`update refresh_tokens set issued_at = issued_at - interval '14 seconds'`
      frozen.child.kill('SIGCONT')
      for (const { socket } of all) if (!socket.closed) await once(socket, 'close')
      // It answers again, so it is through with what it had.
      expect((await send(`${frozenUrl}/ready`)).status).toBe(200)

      const replies = await Promise.all(
        newest.map((token) => send(`${otherUrl}/api/v1/refresh`, { refresh_token: token })),
      )
      expect(replies.map(({ status }) => status)).toEqual(Array(clients).fill(200))
      const [{ ended } = {}] = await database.sql`
      select count(*)::integer as ended from sessions where revoked_at is not null`
      expect(ended).toBe(0)
    },
  )

  testBeside('still ends the session of a spent token whose sender waits for the answer', async () => {
    const database = await cloneDatabase()
    const { listening } = startServer(onDatabase(database.url))
    const url = await listening
    const one = await client(url, database, 0)
    const { body } = await send(`${url}/api/v1/refresh`, { refresh_token: one.token })
    await send(`${url}/api/v1/refresh`, { refresh_token: String(body['refresh_token']) })
    await database.sql`update refresh_tokens set issued_at = issued_at - interval '14 seconds'`
    ask(one)
    const [answer] = (await once(one.socket, 'data')) as [Buffer]
    expect(answer.toString()).toContain('refresh_token_reused')
    one.socket.destroy()
  })
})

import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { describe, expect, test } from 'vitest'
import {
  type ClaimedMail,
  abandonMail,
  claimMails,
  holdMail,
  releaseMail,
  retryMail,
  sweepOutbox,
} from '#src/features/mail/outbox.sql.ts'
import { metric } from '#test/support/actors.ts'
import { cleanUp, testBeside } from '#test/support/clean-up.ts'
import { eventually, startMailServer } from '#test/support/mail.ts'
import { onDatabase, startServer } from '#test/support/process.ts'
import { cloneDatabase, startService, type TestDatabase } from '#test/support/service.ts'

const environment = (url: string) => ({ SMTP_URL: url, MAIL_FROM: 'auth@example.com' })
const nobody = { ip: null, userAgent: null, requestId: null }
const idle = { MAIL_WORKER: 'off' }

const queueMails = (sql: TestDatabase['sql'], count: number) => sql`
  insert into outbox (template, recipient, data)
  select 'password-changed', 'user' || n || '@example.com', '{}' from generate_series(1, ${count}) n`

/** A mail server that does to the recipient `user1@example.com` what a test wants, and takes all other mail. */
async function startPartialServer(onPoison: (socket: Socket, server: Server) => void) {
  const taken: string[] = []
  const server: Server = createServer((socket) => {
    socket.on('error', () => {})
    cleanUp(() => socket.destroy())
    let recipient = ''
    let inData = false
    const say = (line: string) => void socket.write(`${line}\r\n`)
    say('220 mail.example.com')
    createInterface(socket).on('line', (line) => {
      if (inData && line !== '.') return
      if (line === '.') {
        inData = false
        taken.push(recipient)
      }
      if (line.startsWith('RCPT')) recipient = /<(.*)>/.exec(line)?.[1] ?? ''
      if (line.startsWith('RCPT') && recipient === 'user1@example.com') return onPoison(socket, server)
      if (line === 'DATA') inData = true
      say(line === 'DATA' ? '354 go on' : '250 fine')
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  cleanUp(() => server.close())
  return { url: `smtp://127.0.0.1:${(server.address() as { port: number }).port}`, taken }
}

describe.concurrent('a mail that the server does not refuse by itself', () => {
  const answers: Record<string, { onPoison: (socket: Socket) => void; errors: string[] }> = {
    'answered by 421': {
      onPoison: (socket) => {
        socket.end('421 go away\r\n')
      },
      errors: ['SMTP_421', 'ECONNECTION'],
    },
    'cut off': {
      onPoison: (socket) => {
        socket.destroy()
      },
      errors: ['ECONNECTION', 'ESOCKET'],
    },
  }

  for (const [kind, { onPoison, errors }] of Object.entries(answers))
    testBeside(`${kind} waits longer each time and slows no other`, async () => {
      const server = await startPartialServer(onPoison)
      const database = await cloneDatabase()
      await queueMails(database.sql, 31)
      await startService(environment(server.url), database)
      await eventually(() => (server.taken.length === 30 ? true : undefined))
      const tried = async (attempts: number) => {
        const [row] = await database.sql<{ wait: number; error: string }[]>`
        select round(extract(epoch from due_at - now()) / 30)::integer * 30 as wait, last_error as error from outbox
        where recipient = 'user1@example.com' and attempts = ${attempts} and last_error is not null`
        return row
      }
      const first = await eventually(() => tried(1))
      // Without the error, so that the lease of the next attempt is not taken for its wait.
      await database.sql`update outbox set due_at = now(), last_error = null where sent_at is null`
      const second = await eventually(() => tried(2))
      expect([first.wait, second.wait]).toEqual([30, 60])
      expect([first.error, second.error].every((error) => errors.includes(error))).toBe(true)
      expect(new Set(server.taken).size).toBe(30)
    })

  testBeside('loses no attempt when the server goes away with it', async () => {
    const server = await startPartialServer((socket, listener) => {
      listener.close()
      socket.end('421 closing down\r\n')
    })
    const database = await cloneDatabase()
    await queueMails(database.sql, 1)
    const { app } = await startService(environment(server.url), database)
    const row = await eventually(
      async () => (await database.sql`select attempts, last_error from outbox where claim >= 2 and attempts = 0`)[0],
    )
    expect(row).toEqual({ attempts: 0, last_error: null })
    expect(await metric(app, 'auth_mail_total{outcome="retried"}')).toBe(0)
  })

  testBeside('ends after 72 hours like any other', async () => {
    const server = await startPartialServer((socket) => void socket.destroy())
    const database = await cloneDatabase()
    await queueMails(database.sql, 1)
    await database.sql`update outbox set created_at = now() - interval '73 hours', attempts = 80`
    await startService(environment(server.url), database)
    const detail = await eventually(
      async () => (await database.sql`select detail from audit_events where type = 'mail.abandoned'`)[0]?.['detail'],
    )
    expect(detail).toEqual({ template: 'password-changed', error: 'TOO_OLD' })
  })
})

describe.concurrent('SIGTERM while the mail server hangs', () => {
  testBeside('ends the process in time and gives the mail back', async () => {
    const reached = Promise.withResolvers<void>()
    const hanging = await startMailServer({
      onData: (stream) => {
        stream.resume().on('end', () => reached.resolve())
      },
    })
    const { url, sql } = await cloneDatabase()
    await queueMails(sql, 1)
    const server = startServer({ ...onDatabase(url), ...environment(hanging.url) })
    await reached.promise
    server.child.kill('SIGTERM')
    expect((await server.exited).code).toBe(0)
    expect(await sql`select attempts, claim, due_at <= now() as due, sent_at from outbox`).toEqual([
      { attempts: 0, claim: 1, due: true, sent_at: null },
    ])
  })
})

describe.concurrent('a mail that is out', () => {
  testBeside('is sent once although the database cannot be told before its lease has ended', async () => {
    const database = await cloneDatabase()
    const { sql } = database
    await queueMails(sql, 1)
    const mailServer = await startMailServer({
      onMailFrom: (_address, _session, callback) => {
        void sql`alter table outbox rename to outbox_away`.then(() => callback())
      },
    })
    await startService(environment(mailServer.url), database)
    await eventually(() => (mailServer.deliveries.length === 1 ? true : undefined))
    await sql`update outbox_away set due_at = now() - interval '1 minute'`
    await sql`alter table outbox_away rename to outbox`
    await eventually(async () => (await sql`select from outbox where sent_at is not null`)[0])
    expect(await sql`select attempts from outbox`).toEqual([{ attempts: 1 }])
    expect(mailServer.deliveries).toHaveLength(1)
  })
})

describe('a claim', () => {
  test('is of one worker, however many ask at once', async () => {
    const database = await cloneDatabase()
    const [one, two] = [await startService(idle, database), await startService(idle, database)]
    for (let round = 0; round < 10; round++) {
      await queueMails(database.sql, 50)
      const ask = ({ app }: typeof one) => app.db.rows(claimMails, { limit: 50, except: [] })
      const claims = await Promise.all(Array.from({ length: 10 }, (_, i) => ask(i % 2 === 0 ? one : two)))
      const ids = claims.flat().map(({ id }) => id)
      expect(new Set(ids).size).toBe(ids.length)
      await database.sql`truncate outbox`
    }
  })

  test('that has passed to another worker decides nothing any more', async () => {
    const { app, sql } = await startService(idle)
    await queueMails(sql, 1)
    const claim = async () => (await app.db.row(claimMails, { limit: 1, except: [] })) as ClaimedMail
    const lost = await claim()
    await sql`update outbox set due_at = now()`
    const held = await claim()
    expect([lost.claim, held.claim]).toEqual([1, 2])
    const row = () => sql`select attempts, claim, due_at, sent_at, dead_at, last_error from outbox`
    const before = await row()
    await app.db.rows(holdMail, lost)
    await app.db.rows(releaseMail, lost)
    await app.db.rows(retryMail, { ...lost, seconds: 30, error: 'SMTP_451' })
    await app.db.rows(abandonMail, { ...nobody, ...lost, error: 'SMTP_550' })
    expect(await row()).toEqual(before)
    expect(await sql`select from audit_events`).toEqual([])
    await app.db.rows(releaseMail, held)
    expect(await sql`select attempts, due_at <= now() as due from outbox`).toEqual([{ attempts: 1, due: true }])
  })

  test('takes no mail that was sent or given up, and none that this worker has under way', async () => {
    const { app, sql } = await startService(idle)
    await queueMails(sql, 4)
    await sql`update outbox set sent_at = now() where recipient like 'user1@%'`
    await sql`update outbox set dead_at = now() where recipient like 'user2@%'`
    const [{ id } = { id: 0 }] = await sql<{ id: number }[]>`
      select id::float8 as id from outbox where recipient like 'user3@%'`
    const claimed = await app.db.rows(claimMails, { limit: 5, except: [String(id)] })
    expect(claimed.map(({ recipient }) => recipient)).toEqual(['user4@example.com'])
  })
})

describe('the sweep', () => {
  test('leaves what still waits, and what was sent or given up lately', async () => {
    const { app, sql } = await startService(idle)
    await queueMails(sql, 5)
    await sql`update outbox set created_at = now() - interval '100 days'`
    await sql`update outbox set sent_at = now() - interval '31 days' where recipient like 'user1@%'`
    await sql`update outbox set dead_at = now() - interval '31 days' where recipient like 'user2@%'`
    await sql`update outbox set sent_at = now() - interval '29 days' where recipient like 'user3@%'`
    await sql`update outbox set dead_at = now() - interval '29 days' where recipient like 'user4@%'`
    expect(await app.db.row(sweepOutbox, { days: 30 })).toEqual({ deleted: 2 })
    const left = await sql`select recipient from outbox order by id`
    expect(left.map(({ recipient }) => (recipient as string)[4])).toEqual(['3', '4', '5'])
  })
})

describe('the gauges of the queue', () => {
  test('are kept by the worker: a scrape asks the database nothing', async () => {
    const database = await cloneDatabase()
    await queueMails(database.sql, 3)
    await database.sql`update outbox set created_at = now() - interval '90 seconds'`
    const { app } = await startService(environment('smtp://127.0.0.1:9'), database)
    await eventually(async () => ((await metric(app, 'auth_mail_queued')) === 3 ? true : undefined))
    expect(await metric(app, 'auth_mail_oldest_seconds')).toBeGreaterThanOrEqual(90)
    const asked: unknown[] = []
    const rows = app.db.rows.bind(app.db)
    Reflect.set(app.db, 'rows', (...args: Parameters<typeof rows>) => {
      asked.push(args[0])
      return rows(...args)
    })
    await metric(app, 'auth_mail_queued')
    Reflect.deleteProperty(app.db, 'rows')
    expect(asked).toEqual([])
  })

  test('are of the processes that send', async () => {
    const { app } = await startService(idle)
    expect((await app.inject('/metrics')).body).not.toContain('auth_mail_queued')
  })
})

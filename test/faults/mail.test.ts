import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { describe, expect, test } from 'vitest'
import { get, metric, password, post } from '#test/support/actors.ts'
import { testBeside } from '#test/support/clean-up.ts'
import { eventually, linkIn, startMailServer } from '#test/support/mail.ts'
import { onDatabase, send, startServer } from '#test/support/process.ts'
import { cloneDatabase, startService, type TestDatabase } from '#test/support/service.ts'

const environment = (url: string) => ({
  SMTP_URL: url,
  MAIL_FROM: 'auth@example.com',
  SERVICE_NAME: 'Acme',
})
const newAddress = () => `${randomUUID()}@example.com`
const portOf = (url: string) => Number(new URL(url).port)
const outcome = (name: string) => `auth_mail_total{outcome="${name}"}`

/** An answer of the SMTP server. */
const refusal = (code: number) => Object.assign(new Error('no'), { responseCode: code })
const unsent = async ({ sql }: Pick<TestDatabase, 'sql'>) => {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::integer as count from outbox where sent_at is null and dead_at is null`
  return row?.count ?? 0
}
const noneUnsent = (database: Pick<TestDatabase, 'sql'>) =>
  eventually(async () => ((await unsent(database)) === 0 ? true : undefined))

/** Puts registrations' worth of mail into the outbox without the cost of their passwords. */
async function queueMails(sql: TestDatabase['sql'], count: number): Promise<string[]> {
  const rows = await sql<{ recipient: string }[]>`
    insert into outbox (template, recipient, data)
    select 'password-changed', 'user' || n || '@example.com', '{}' from generate_series(1, ${count}) n returning recipient`
  return rows.map(({ recipient }) => recipient).toSorted()
}

describe('a mail', () => {
  test('arrives with one recipient, a stable id, text and HTML, and is marked as sent', async () => {
    const server = await startMailServer()
    const service = await startService(environment(server.url))
    const email = newAddress()
    await post(service.app, '/api/v1/users/', { email, password, full_name: '<b>Ada</b>, "Countess" <x@evil.example>' })
    const { from, to, mail, raw } = await eventually(() => server.deliveries[0])
    expect([from, to]).toEqual(['auth@example.com', [email]])
    expect(mail.from).toEqual({ name: 'Acme', address: 'auth@example.com' })
    expect(mail.to).toEqual([{ name: '', address: email }])
    expect(mail.subject).toBe('Confirm your e-mail address for Acme')
    expect(linkIn(mail)).toMatch(/#token=lko_/)
    expect(mail.html).toContain(`href="${linkIn(mail)}"`)
    expect(`${mail.html}${mail.text}`).not.toMatch(/Ada|Countess|evil/)
    expect(mail.messageId).toMatch(/^<\d+\.\d+@example\.com>$/)
    expect(raw).toContain('Auto-Submitted: auto-generated')
    await noneUnsent(service)
    expect(await metric(service.app, outcome('sent'))).toBe(1)
    await eventually(async () => ((await metric(service.app, 'auth_mail_queued')) === 0 ? true : undefined))
  })

  test.for([
    'victim@example.com\r\nBcc: mallory@evil.example',
    'victim@example.com,mallory@evil.example',
    'victim@example.com>\r\nRCPT TO:<mallory@evil.example',
    '"x" <mallory@evil.example>',
    'victim@example.com (mallory@evil.example)',
  ])('goes to nobody by the address %j', async (email) => {
    const { app, sql } = await startService(environment('smtp://127.0.0.1:9'))
    for (const reply of [
      await post(app, '/api/v1/users/', { email, password }),
      await post(app, '/api/v1/forgot-password', { email }),
    ])
      expect(reply.statusCode).toBe(400)
    expect(await sql`select id from outbox`).toEqual([])
  })

  test('takes no header from what the database holds, and no second recipient', async () => {
    const server = await startMailServer()
    const service = await startService(environment(server.url))
    const name = 'Ada\r\nBcc: mallory@evil.example\r\n\r\nHi'
    await service.sql`
      with u as (insert into users (email, full_name) values ('ada@example.com', ${name}) returning id)
      insert into outbox (user_id, template, recipient, data)
      select id, 'password-changed', recipient, '{}'
      from u, unnest(array['ada@example.com', 'ada@example.com, mallory@evil.example', E'ada@example.com\r\nBcc: mallory@evil.example']) recipient`
    await noneUnsent(service)
    for (const { to, mail } of server.deliveries) {
      expect(to).toEqual(['ada@example.com'])
      expect(mail.headers.map(({ key }) => key)).not.toContain('bcc')
    }
    expect(server.deliveries).toHaveLength(1)
  })

  test.for([
    ['https://app.example.com/reset/{token}', /^https:\/\/app\.example\.com\/reset\/lko_[\w-]{43}$/],
    ['https://app.example.com/reset?x=1', /^https:\/\/app\.example\.com\/reset\?x=1&token=lko_[\w-]{43}$/],
  ] as const)('leads where PASSWORD_RESET_URL says: %s', async ([url, link]) => {
    const server = await startMailServer()
    const { app } = await startService({ ...environment(server.url), PASSWORD_RESET_URL: url })
    const email = newAddress()
    await post(app, '/api/v1/users/', { email, password })
    await post(app, '/api/v1/forgot-password', { email }, { host: 'evil.example', 'x-forwarded-host': 'evil.example' })
    const { mail } = await eventually(() => server.deliveries.find(({ mail }) => mail.subject?.startsWith('Set a new')))
    expect(linkIn(mail)).toMatch(link)
  })
})

describe('a mail server that is away', () => {
  test('costs no mail and no attempt: all arrive once when it is back', async () => {
    const gone = await startMailServer()
    await gone.stop()
    const service = await startService(environment(gone.url))
    const recipients = await queueMails(service.sql, 30)
    service.app.mailer?.kick()
    const started = performance.now()
    expect((await post(service.app, '/api/v1/forgot-password', { email: 'user1@example.com' })).statusCode).toBe(202)
    expect(performance.now() - started).toBeLessThan(5000)
    await eventually(async () => ((await metric(service.app, 'auth_mail_queued')) === 30 ? true : undefined))
    expect(await service.sql`select id from outbox where dead_at is not null or attempts > 1`).toEqual([])

    const back = await startMailServer({}, portOf(gone.url))
    await noneUnsent(service)
    expect(back.deliveries.flatMap(({ to }) => to).toSorted()).toEqual(recipients)
    expect(await service.sql`select distinct attempts from outbox`).toEqual([{ attempts: 1 }])
  })

  test('and one that says nothing, or hangs up, holds nobody up', async () => {
    for (const behave of ['silent', 'hangs up'] as const) {
      const server: Server = createServer((socket) => {
        socket.on('error', () => {})
        if (behave === 'hangs up') socket.destroy()
      }).listen(0, '127.0.0.1')
      await once(server, 'listening')
      const { port } = server.address() as { port: number }
      const { app, sql } = await startService(environment(`smtp://127.0.0.1:${port}`))
      const email = newAddress()
      const started = performance.now()
      expect((await post(app, '/api/v1/users/', { email, password })).statusCode).toBe(201)
      expect((await post(app, '/api/v1/forgot-password', { email })).statusCode).toBe(202)
      expect((await get(app, '/ready')).statusCode).toBe(200)
      expect(performance.now() - started).toBeLessThan(5000)
      expect(await unsent({ sql })).toBe(2)
      server.close()
    }
  })
})

describe.concurrent('a slow mail server', () => {
  testBeside('gets each mail once, from two workers too', async () => {
    const server = await startMailServer({
      onMailFrom: (_address, _session, callback) => void setTimeout(callback, 30),
    })
    const database = await cloneDatabase()
    const recipients = await queueMails(database.sql, 60)
    await Promise.all([
      startService(environment(server.url), database),
      startService(environment(server.url), database),
    ])
    await noneUnsent(database)
    expect(server.deliveries.flatMap(({ to }) => to).toSorted()).toEqual(recipients)
    expect(new Set(server.deliveries.map(({ mail }) => mail.messageId)).size).toBe(60)
  })

  testBeside('is let finish when the service closes', async () => {
    const release = Promise.withResolvers<void>()
    const reached = Promise.withResolvers<void>()
    const server = await startMailServer({
      onMailFrom: (_address, _session, callback) => {
        reached.resolve()
        void release.promise.then(() => callback())
      },
    })
    const { app, sql } = await startService(environment(server.url))
    await queueMails(sql, 1)
    app.mailer?.kick()
    await reached.promise
    const closed = app.close()
    release.resolve()
    await closed
    expect(server.deliveries).toHaveLength(1)
    expect(await unsent({ sql })).toBe(0)
  })
})

describe('a refusal', () => {
  test('for now is tried again, later each time', async () => {
    let refusals = 2
    const server = await startMailServer({
      onRcptTo: (_address, _session, callback) => callback(refusals-- > 0 ? refusal(451) : undefined),
    })
    const service = await startService(environment(server.url))
    await queueMails(service.sql, 1)
    const waits = []
    for (const attempts of [1, 2]) {
      const row = await eventually(async () => {
        const [row] = await service.sql`
          select round(extract(epoch from due_at - now()) / 30)::integer * 30 as wait, last_error from outbox
          where attempts = ${attempts} and last_error = 'SMTP_451' and due_at > now()`
        return row
      })
      waits.push(row['wait'])
      // Without the error, so that the lease of the next attempt is not taken for its wait.
      await service.sql`update outbox set due_at = now(), last_error = null`
    }
    await noneUnsent(service)
    expect(waits).toEqual([30, 60])
    expect(server.deliveries).toHaveLength(1)
    expect(await metric(service.app, outcome('retried'))).toBe(2)
  })

  test.for([
    ['of the recipient', { onRcptTo: (_a: unknown, _s: unknown, done: (e?: Error) => void) => done(refusal(550)) }],
    [
      'of the content',
      {
        onData: (stream: NodeJS.ReadableStream, _s: unknown, done: (e?: Error) => void) => {
          stream.resume().on('end', () => done(refusal(554)))
        },
      },
    ],
  ] as const)('for good %s ends in an event', async ([, options]) => {
    const server = await startMailServer(options)
    const { app, sql } = await startService(environment(server.url))
    await queueMails(sql, 1)
    const event = await eventually(async () => {
      const [event] = await sql`select detail from audit_events where type = 'mail.abandoned'`
      return event
    })
    expect(event['detail']).toEqual({ template: 'password-changed', error: expect.stringMatching(/^SMTP_55[04]$/) })
    expect(await sql`select dead_at is not null as dead, attempts from outbox`).toEqual([{ dead: true, attempts: 1 }])
    expect(await metric(app, outcome('abandoned'))).toBe(1)
  })

  test('of the sender is the operator’s to mend: no mail is given up', async () => {
    const server = await startMailServer({ onMailFrom: (_address, _session, callback) => callback(refusal(550)) })
    const { sql } = await startService(environment(server.url))
    await queueMails(sql, 1)
    await eventually(
      async () => (await sql`select id from outbox where last_error = 'SMTP_550' and dead_at is null`)[0],
    )
  })
})

describe('a mail that is of no use any more', () => {
  test.for(['older than 72 hours', 'with a link that has expired', 'with a link that a newer one has replaced'])(
    '%s is not sent',
    async (reason) => {
      const database = await cloneDatabase()
      const { app } = await startService({ ...environment('smtp://127.0.0.1:9'), MAIL_WORKER: 'off' }, database)
      const email = newAddress()
      await post(app, '/api/v1/users/', { email, password })
      if (reason.endsWith('hours')) await database.sql`update outbox set created_at = now() - interval '73 hours'`
      else if (reason.endsWith('expired')) await database.sql`update one_time_tokens set expires_at = now()`
      else await database.sql`update one_time_tokens set digest = sha256('another')`
      const server = await startMailServer()
      await startService(environment(server.url), database)
      await noneUnsent(database)
      expect(server.deliveries).toEqual([])
      expect(await database.sql`select last_error from outbox`).toEqual([
        { last_error: reason.endsWith('hours') ? 'TOO_OLD' : 'LINK_OUTDATED' },
      ])
    },
  )
})

describe.concurrent('kill -9 with 300 mails queued, twice', () => {
  testBeside('loses none and sends none twice once the mail server is back', async () => {
    const { url, sql } = await cloneDatabase()
    const gone = await startMailServer()
    await gone.stop()
    const variables = { ...onDatabase(url), ...environment(gone.url) }
    const recipients = await queueMails(sql, 300)
    for (let round = 0; round < 2; round++) {
      const server = startServer(variables)
      await send(`${await server.listening}/ready`)
      await eventually(
        async () =>
          (await sql`select id from outbox where due_at > now() limit 1`)[0] ??
          (await sql`select id from outbox where due_at > created_at limit 1`)[0],
      )
      server.child.kill('SIGKILL')
      await once(server.child, 'close')
      // The leases of the dead.
      await sql`update outbox set due_at = now()`
    }
    const back = await startMailServer({}, portOf(gone.url))
    const server = startServer(variables)
    await server.listening
    await noneUnsent({ sql })
    expect(back.deliveries.flatMap(({ to }) => to).toSorted()).toEqual(recipients)
    server.child.kill('SIGTERM')
    const { output } = await server.exited
    expect(output).not.toMatch(/user\d+@example\.com|lko_/)
  })
})

describe.concurrent('kill -9 in the middle of sending', () => {
  testBeside('loses none, and sends no more twice than were under way', async () => {
    const { url, sql } = await cloneDatabase()
    const mailServer = await startMailServer()
    const variables = { ...onDatabase(url), ...environment(mailServer.url) }
    const recipients = await queueMails(sql, 300)
    for (const sent of [50, 150]) {
      const server = startServer(variables)
      await eventually(() => mailServer.deliveries.length >= sent || undefined)
      server.child.kill('SIGKILL')
      await once(server.child, 'close')
      await sql`update outbox set due_at = now()`
    }
    await startServer(variables).listening
    await noneUnsent({ sql })
    expect([...new Set(mailServer.deliveries.flatMap(({ to }) => to))].toSorted()).toEqual(recipients)
    expect(mailServer.deliveries.length).toBeLessThanOrEqual(300 + 2 * 5)
    expect(new Set(mailServer.deliveries.map(({ mail }) => mail.messageId)).size).toBe(300)
  })
})

describe('without SMTP_URL', () => {
  test('in production mail is queued and stays so, and there is no /dev/mails', async () => {
    const production = { ENVIRONMENT: 'production', PUBLIC_URL: 'https://auth.example.com' }
    const { app, sql } = await startService(production)
    await post(app, '/api/v1/users/', { email: newAddress(), password })
    expect(await unsent({ sql })).toBe(1)
    expect((await get(app, '/dev/mails')).statusCode).toBe(404)
  })

  test('in development /dev/mails is for this machine only', async () => {
    const { app } = await startService()
    expect((await get(app, '/dev/mails')).statusCode).toBe(200)
    expect((await get(app, '/dev/mails', { 'x-forwarded-for': '127.0.0.1' })).statusCode).toBe(404)
    const elsewhere = await app.inject({ url: '/dev/mails', remoteAddress: '192.0.2.1' })
    expect(elsewhere.statusCode).toBe(404)
  })
})

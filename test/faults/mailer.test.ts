import { once } from 'node:events'
import { createServer } from 'node:net'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { abandonMail, type ClaimedMail, claimMails, releaseMail, retryMail } from '#src/features/mail/outbox.sql.ts'
import { cleanUp } from '#test/support/clean-up.ts'
import { eventually, startMailServer } from '#test/support/mail.ts'
import { startService, type TestDatabase } from '#test/support/service.ts'

const environment = (url: string) => ({ SMTP_URL: url, MAIL_FROM: 'auth@example.com' })
/** As the mailer renews the lease of a mail that is under way. */
const renewMs = 20_000
const nobody = { ip: null, userAgent: null, requestId: null }
const queueMails = ({ sql }: Pick<TestDatabase, 'sql'>, ...recipients: string[]) => sql`
  insert into outbox (template, recipient, data) select 'password-changed', unnest(${`{${recipients.join()}}`}::text[]), '{}'`
const countOf = async (rows: PromiseLike<readonly unknown[]>) => (await rows).length

/** A mail server that lets nobody go on until it is told to, each time it is for one more. */
async function startPatientServer() {
  const held: Array<() => void> = []
  const server = await startMailServer({ onMailFrom: (_address, _session, callback) => void held.push(callback) })
  const letGo = () => eventually(() => held.shift()).then((go) => go())
  cleanUp(() => held.forEach((go) => go()))
  return { ...server, held, letGo }
}

/** Lets the renewals of leases come every 20 ms; holds those that go on. All other timers are as they are. */
function hastenRenewals(): ReadonlySet<unknown> {
  const goingOn = new Set<unknown>()
  const [start, end] = [setInterval, clearInterval]
  vi.spyOn(globalThis, 'setInterval').mockImplementation(((run: () => void, ms: number) => {
    if (ms !== renewMs) return start(run, ms)
    const timer = start(run, 20)
    goingOn.add(timer)
    return timer
  }) as typeof setInterval)
  vi.spyOn(globalThis, 'clearInterval').mockImplementation((timer) => {
    goingOn.delete(timer)
    end(timer)
  })
  return goingOn
}

afterEach(() => void vi.restoreAllMocks())

describe('a mail that is under way', () => {
  test('keeps its lease, and leaves no timer behind', async () => {
    const renewals = hastenRenewals()
    const server = await startPatientServer()
    const { app, sql } = await startService(environment(server.url))
    await queueMails({ sql }, 'ada@example.com')
    app.mailer?.kick()
    await eventually(() => server.held.length === 1 || undefined)
    await sql`update outbox set due_at = now() + interval '5 seconds'`
    await eventually(async () => (await sql`select from outbox where due_at > now() + interval '2 minutes'`)[0])
    await server.letGo()
    await eventually(async () => (await sql`select from outbox where sent_at is not null`)[0])
    await eventually(() => renewals.size === 0 || undefined)
  })

  test('is not taken once more by the same process though its lease has ended', async () => {
    const server = await startPatientServer()
    const { app, sql } = await startService(environment(server.url))
    await queueMails({ sql }, 'ada@example.com')
    app.mailer?.kick()
    await eventually(() => server.held.length === 1 || undefined)
    await sql`update outbox set due_at = now()`
    await queueMails({ sql }, 'bob@example.com')
    app.mailer?.kick()
    // Who took this one has looked at the other.
    await eventually(() => server.held.length === 2 || undefined)
    await server.letGo()
    await server.letGo()
    await eventually(async () => (await countOf(sql`select from outbox where sent_at is not null`)) === 2 || undefined)
    expect(await sql`select distinct claim from outbox`).toEqual([{ claim: 1 }])
    expect(server.deliveries.flatMap(({ to }) => to).toSorted()).toEqual(['ada@example.com', 'bob@example.com'])
  })

  test('is one of five, and the next follows when one is out', async () => {
    const server = await startPatientServer()
    const { app, sql } = await startService(environment(server.url))
    await queueMails({ sql }, ...Array.from({ length: 20 }, (_, i) => `user${i}@example.com`))
    const claimed = () => countOf(sql`select from outbox where claim > 0`)
    app.mailer?.kick()
    await eventually(() => server.held.length === 5 || undefined)
    expect(await claimed()).toBe(5)
    await server.letGo()
    await eventually(async () => (await claimed()) > 5 || undefined)
    expect(await claimed()).toBe(6)
  })
})

describe('a mail server that stays away', () => {
  test('is asked again after one second, then after two', async () => {
    const server = createServer((socket) => void socket.destroy()).listen(0, '127.0.0.1')
    await once(server, 'listening')
    cleanUp(() => server.close())
    const { port } = server.address() as { port: number }
    const { app, sql } = await startService(environment(`smtp://127.0.0.1:${port}`))
    const started = performance.now()
    await queueMails({ sql }, 'ada@example.com')
    await eventually(async () => {
      app.mailer?.kick()
      return (await sql`select from outbox where claim >= 3`)[0]
    })
    expect(performance.now() - started).toBeGreaterThan(3000)
  })
})

describe('an outage of the mail server', () => {
  test('is told once, and so is the next', async () => {
    const gone = await startMailServer()
    await gone.stop()
    const { app, sql } = await startService(environment(gone.url))
    const warn = vi.spyOn(app.log, 'warn')
    cleanUp(() => warn.mockRestore())
    const told = () => warn.mock.calls.filter((words) => String(words).includes('mail cannot be sent')).length
    const until = (look: () => PromiseLike<readonly unknown[]>) =>
      eventually(async () => {
        app.mailer?.kick()
        return (await look())[0]
      })

    await queueMails({ sql }, 'ada@example.com')
    await until(() => sql`select from outbox where claim >= 2 and attempts = 0`)
    expect(told()).toBe(1)
    const back = await startMailServer({}, Number(new URL(gone.url).port))
    await until(() => sql`select from outbox where sent_at is not null`)
    await back.stop()
    await queueMails({ sql }, 'bob@example.com')
    await until(() => sql`select from outbox where recipient = 'bob@example.com' and claim >= 1 and attempts = 0`)
    expect(told()).toBe(2)
  })
})

describe('a claim', () => {
  test.for(['sent_at', 'dead_at'] as const)('on a mail with %s decides nothing any more', async (end) => {
    const { app, sql } = await startService({ MAIL_WORKER: 'off' })
    await queueMails({ sql }, 'ada@example.com')
    const held = (await app.db.row(claimMails, { limit: 1, except: [] })) as ClaimedMail
    await sql`update outbox set ${sql(end)} = now()`
    const row = () => sql`select attempts, due_at, sent_at, dead_at, last_error from outbox`
    const before = await row()
    await app.db.rows(releaseMail, held)
    await app.db.rows(retryMail, { ...held, seconds: 30, error: 'SMTP_451' })
    await app.db.rows(abandonMail, { ...nobody, ...held, error: 'SMTP_550' })
    expect(await row()).toEqual(before)
    expect(await sql`select from audit_events`).toEqual([])
  })
})

import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { cp, mkdir, readdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { type Actor, password, post, signedUp, type TokenReply } from '#test/support/actors.ts'
import { Collector, startCollector } from '#test/support/collector.ts'
import { cleanUp } from '#test/support/clean-up.ts'
import { bare, followServer, freePort, onDatabase, send, startServer, temporaryFolder } from '#test/support/process.ts'
import { proxyTo } from '#test/support/proxy.ts'
import { cloneDatabase, startService } from '#test/support/service.ts'

const database = await cloneDatabase()

/** A caller that has begun a trace of its own. */
function caller() {
  const [traceId, spanId] = [randomBytes(16).toString('hex'), randomBytes(8).toString('hex')]
  return { traceId, spanId, traceparent: `00-${traceId}-${spanId}-01` }
}

async function traced(environment: Record<string, string> = {}) {
  const collector = await startCollector()
  const settings = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, ...environment }
  const { app } = await startService(settings, database)
  return { collector, app, actor: await signedUp(app) }
}

const bearer = ({ tokens }: Actor) => `Bearer ${tokens.access_token}`

describe('a request', () => {
  test.each([
    ['a login', 'POST /api/v1/token', ['userByEmail', 'insertSession']],
    ['a refresh', 'POST /api/v1/refresh', ['rotateRefreshToken']],
    ['/me', 'GET /api/v1/me', ['sessionState']],
    ['/validate', 'POST /api/v1/validate', ['sessionState']],
  ])('such as %s is one trace with its statements', async (_name, name, statements) => {
    const { collector, app, actor } = await traced()
    const { traceId, spanId, traceparent } = caller()
    const [method, url] = name.split(' ') as ['GET' | 'POST', string]
    const fields = { username: actor.email, password, refresh_token: actor.tokens.refresh_token }
    const headers = { traceparent, ...(url.endsWith('e') ? { authorization: bearer(actor) } : {}) }
    const payload = method === 'POST' ? fields : undefined
    const reply = await app.inject({ method, url, headers, ...(payload ? { payload } : {}) })
    expect(reply.statusCode).toBe(200)
    await app.close()

    const spans = collector.spans.filter((span) => span.traceId === traceId)
    const root = spans.find(({ parentId }) => parentId === spanId)
    expect(root).toMatchObject({
      name,
      kind: 'server',
      isError: false,
      resource: { 'service.name': 'latchkey', 'service.version': expect.any(String) },
      attributes: { 'http.request.method': method, 'http.route': url, 'http.response.status_code': 200 },
    })
    const children = spans.filter((span) => span !== root)
    expect(children.map((span) => span.name)).toEqual(statements)
    for (const child of children) {
      const attributes = {
        'db.system.name': 'postgresql',
        'db.operation.name': child.name,
        'db.query.summary': child.name,
      }
      expect(child).toMatchObject({ parentId: root?.id, kind: 'client', isError: false, links: [], events: 0 })
      expect(child.attributes).toEqual(attributes)
    }
  })

  test('that no caller traces begins a trace, and those of monitors do not', async () => {
    const { collector, app } = await traced()
    for (const url of ['/health', '/ready?verbose', '/metrics', '/api/v1/me']) await app.inject(url)
    await app.close()
    const roots = collector.spans.filter(({ kind }) => kind === 'server')
    expect(roots.map(({ name, parentId }) => [name, parentId])).toEqual([
      ['POST /api/v1/users/', ''],
      ['POST /api/v1/token', ''],
      ['GET /api/v1/me', ''],
    ])
    expect(new Set(roots.map(({ traceId }) => traceId)).size).toBe(3)
  })

  test('that shares its statement has it in its own trace, where it refers to the one that was sent', async () => {
    const { collector, app, actor } = await traced()
    const others = await Promise.all(Array.from({ length: 11 }, () => signedUp(app)))
    const callers = [actor, ...others].map((one) => ({ one, me: caller(), refresh: caller() }))
    await Promise.all(callers.map(({ one, me }) => askMe(one, me.traceparent)))
    await Promise.all(callers.map(({ one, refresh }) => refreshAs(one, refresh.traceparent)))
    await app.close()

    const statementsOf = (traceId: string) =>
      collector.spans.filter((span) => span.traceId === traceId && span.kind === 'client')
    const states = callers.map(({ me }) => statementsOf(me.traceId))
    expect(states.map((spans) => spans.map(({ name }) => name))).toEqual(callers.map(() => ['sessionStates']))
    const sent = states.flat().filter(({ links }) => links.length === 0)
    expect(sent.length).toBeLessThan(callers.length)
    const known = new Set(sent.map(({ id }) => id))
    for (const { links } of states.flat()) expect(links.every((id) => known.has(id)) && links.length <= 1).toBe(true)

    const rotations = callers.map(({ refresh }) => statementsOf(refresh.traceId).map(({ name }) => name))
    expect(rotations.filter(([name]) => name === 'rotateRefreshTokens').length).toBeGreaterThan(1)
    for (const names of rotations) expect(names[0]).toMatch(/^rotateRefreshTokens?$/)

    function askMe(one: Actor, traceparent: string) {
      return app.inject({ url: '/api/v1/me', headers: { traceparent, authorization: bearer(one) } })
    }
    function refreshAs({ tokens }: Actor, traceparent: string) {
      return post(app, '/api/v1/refresh', { refresh_token: tokens.refresh_token }, { traceparent })
    }
  })

  test('that the database fails is an error, and so is its statement; one that is refused is none', async () => {
    const collector = await startCollector()
    const proxy = await proxyTo(database)
    const { app } = await startService({ OTEL_EXPORTER_OTLP_ENDPOINT: collector.url }, { ...database, url: proxy.url })
    const actor = await signedUp(app)
    const [failed, refused] = [caller(), caller()]
    const ask = (authorization: string, { traceparent }: { traceparent: string }) =>
      app.inject({ url: '/api/v1/me', headers: { authorization, traceparent } })
    proxy.refuse(true)
    expect((await ask(bearer(actor), failed)).statusCode).toBe(503)
    expect((await ask('Bearer forged', refused)).statusCode).toBe(401)
    await app.close()

    const of = ({ traceId }: { traceId: string }) =>
      collector.spans
        .filter((span) => span.traceId === traceId)
        .map(({ name, isError, attributes }) => ({
          name,
          isError,
          type: attributes['error.type'],
        }))
    expect(of(failed).at(-1)).toEqual({ name: 'GET /api/v1/me', isError: true, type: '503' })
    expect(of(failed)[0]).toMatchObject({
      name: 'sessionState',
      isError: true,
      type: expect.stringMatching(/^[A-Z_]+$/),
    })
    expect(of(refused)).toEqual([{ name: 'GET /api/v1/me', isError: false, type: undefined }])
  })

  test('is traced in the share that is wanted, whatever a stranger wants', async () => {
    const { collector, app } = await traced({ OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '0' })
    await app.inject({ url: '/api/v1/me', headers: { traceparent: caller().traceparent } })
    await app.close()
    expect(collector.spans).toEqual([])
  })
})

describe('what is delivered', () => {
  test('holds no token, password, name, address, path or query, also of what goes wrong', async () => {
    const { collector, app, actor } = await traced({
      CONTRACTS: 'kanban,oauth,auth-register:/register',
      OTEL_EXPORTER_OTLP_HEADERS: 'x-tenant=secret%20header',
      OTEL_SERVICE_NAME: 'the-name',
    })
    const link = `lko_${randomBytes(32).toString('base64url')}`
    const remoteAddress = '203.0.113.77'
    const { traceparent } = caller()
    const headers = { authorization: bearer(actor), 'user-agent': 'agent-secret', traceparent, tracestate: 'a=secret' }
    const username = 'name-secret'
    await app.inject({
      method: 'POST',
      url: '/api/v1/users/',
      payload: { email: actor.email, password, username },
      remoteAddress,
    })
    await app.inject({ url: `/api/v1/me?token=${actor.tokens.access_token}&q=query-secret`, headers, remoteAddress })
    await app.inject({
      method: 'POST',
      url: `/register/auth/reset-password/${link}`,
      payload: { password },
      remoteAddress,
    })
    await app.inject({ url: `/api/v1/users/${actor.userId}?q=query-secret`, headers, remoteAddress })
    await app.inject({ url: '/path-secret/lkr_x.1.y?q=query-secret', headers, remoteAddress })
    await actor.send('PATCH', '/me', { email: 'other-secret@example.com', username })
    const rotated = (await actor.refresh()).json<TokenReply>()
    await actor.refresh('lkr_forged.secret')
    await app.close()

    const routes = collector.spans.map(({ attributes }) => attributes['http.route'])
    expect(routes).toContain('/register/auth/reset-password/:token')
    const types = collector.spans.map(({ attributes }) => attributes['error.type'])
    expect(types).toContain('23505')
    const bytes = Buffer.concat(collector.deliveries.map(({ body }) => body)).toString('latin1')
    expect(bytes).toContain('the-name')
    const { email, tokens } = actor
    const secrets = [
      password,
      link,
      remoteAddress,
      email,
      tokens.access_token,
      tokens.refresh_token,
      rotated.refresh_token,
    ]
    const parts = ['secret', 'lko_', 'lkr_', 'eyJ', '127.0.0.1', '$argon2', 'select ', email.split('@')[0] ?? '']
    expect([...secrets, ...parts].filter((text) => bytes.includes(text))).toEqual([])
    expect(collector.spans.every(({ events, statusMessage }) => events === 0 && statusMessage === '')).toBe(true)
    expect(collector.deliveries[0]?.headers).toMatchObject({
      'x-tenant': 'secret header',
      'content-type': 'application/x-protobuf',
    })
  })
})

describe('a line of the log', () => {
  test('that speaks of a request names its trace and its span', async () => {
    const collector = await startCollector()
    const server = startServer({ ...onDatabase(database.url), OTEL_EXPORTER_OTLP_ENDPOINT: collector.url })
    const base = await server.listening
    const { traceId, spanId, traceparent } = caller()
    await send(`${base}/api/v1/me`, undefined, { traceparent })
    server.child.kill('SIGTERM')
    const { output, code } = await server.exited
    expect(code).toBe(0)
    const root = collector.spans.find((span) => span.traceId === traceId)
    expect(root?.parentId).toBe(spanId)
    expect(lineOf(output, 'request')).toMatchObject({ trace_id: traceId, span_id: root?.id, route: '/api/v1/me' })
  })
})

describe('a collector', () => {
  test('that is away costs no request, one line when it goes and one when it is back', async () => {
    const port = await freePort()
    const server = startServer({
      ...onDatabase(database.url),
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}/`,
    })
    const base = await server.listening
    let output = ''
    server.child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()))
    const told = (words: string) => output.split(words).length - 1
    const untilTold = (words: string) =>
      vi.waitUntil(
        async () => {
          expect((await send(`${base}/api/v1/me`)).status).toBe(401)
          return told(words) > 0
        },
        { timeout: 20_000, interval: 100 },
      )
    await untilTold('takes no traces')
    const collector = new Collector()
    collector.status = 400
    await collector.listen(port)
    cleanUp(() => collector.close())
    await vi.waitUntil(async () => (await send(`${base}/api/v1/me`)) && collector.deliveries.length > 2, {
      timeout: 20_000,
      interval: 100,
    })
    expect([told('takes no traces'), told('takes traces again')]).toEqual([1, 0])
    collector.status = 200
    await untilTold('takes traces again')
    expect([told('takes no traces'), told('takes traces again')]).toEqual([1, 1])
    expect(lineOf(output, 'takes no traces')).toMatchObject({ level: 40, code: 'ECONNREFUSED' })
  })

  test('that does not answer costs no request and the memory of 2,048 spans', async () => {
    const { collector, told, ask, allTold } = await watched()
    collector.isSilent = true
    // A delivery that is given up makes room for as many as it held.
    let sent = 0
    const goesOn = async () => {
      sent += await ask()
      const { length } = collector.deliveries
      return length >= 4 && sent >= 3000 + 512 * length
    }
    await vi.waitUntil(goesOn, { timeout: 120_000, interval: 100 })
    const times = collector.deliveries.map(({ at }) => at)
    // One after the other: each is given up after three seconds.
    for (const [i, at] of times.slice(1).entries()) expect(at - (times[i] ?? at)).toBeGreaterThan(1000)
    await vi.waitUntil(() => told('takes no traces').length > 0, { timeout: 20_000 })
    collector.isSilent = false
    await vi.waitUntil(() => told('takes traces again').length > 0, { timeout: 20_000 })
    await allTold(sent)
    expect(collector.taken.length).toBeLessThanOrEqual(2048)
    expect(told('takes no traces')).toHaveLength(1)
  })

  test('that is too slow is told once, and once that it keeps up again, with what was dropped', async () => {
    const { collector, told, ask, allTold } = await watched()
    collector.delayMs = 1500
    let sent = 0
    while (told('too slowly').length === 0 && sent < 20_000) sent += await ask()
    // The next one goes when one has come to its end.
    const next = Math.max(collector.deliveries.length, 1) + 1
    await vi.waitUntil(() => collector.deliveries.length >= next, { timeout: 20_000 })
    // More than it has made room for.
    for (let i = 0; i < 7; i++) sent += await ask()
    expect(told('takes traces again')).toEqual([])
    collector.delayMs = 0
    await vi.waitUntil(() => told('takes traces again').length > 0, { timeout: 20_000 })
    await allTold(sent)
    expect([told('too slowly').length, told('takes traces again').length]).toEqual([1, 1])
    expect(told('takes no traces')).toEqual([])
  })

  /** A service whose log is read, and requests for it, of which each is one span. */
  async function watched() {
    const collector = await startCollector()
    const { app } = await startService({ OTEL_EXPORTER_OTLP_ENDPOINT: collector.url }, database)
    const spies = [vi.spyOn(app.log, 'warn'), vi.spyOn(app.log, 'info')]
    const told = (words: string) =>
      spies.flatMap(({ mock }) => mock.calls).filter((call) => String(call.at(-1)).includes(words))
    return {
      collector,
      told,
      ask: async () => {
        const replies = await Promise.all(Array.from({ length: 100 }, () => app.inject('/api/v1/me')))
        expect(new Set(replies.map(({ statusCode }) => statusCode))).toEqual(new Set([401]))
        return replies.length
      },
      /** Of so many spans each was taken or is told of as dropped. */
      allTold: async (sent: number) => {
        const lines = told('takes traces again') as unknown[][] as Array<[{ dropped: number }]>
        const dropped = lines.reduce((sum, [line]) => sum + line.dropped, 0)
        expect(dropped).toBeGreaterThan(0)
        await expect.poll(() => collector.taken.length).toBeGreaterThanOrEqual(sent - dropped)
        await app.close()
        expect(collector.taken.length).toBe(sent - dropped)
      },
    }
  }

  test('that does not answer holds up no shutdown', async () => {
    const collector = await startCollector()
    collector.isSilent = true
    const server = startServer({ ...onDatabase(database.url), OTEL_EXPORTER_OTLP_ENDPOINT: collector.url })
    const base = await server.listening
    expect((await send(`${base}/api/v1/me`)).status).toBe(401)
    server.child.kill('SIGTERM')
    const { code, output } = await server.exited
    expect([code, output]).toEqual([0, expect.not.stringContaining('killed')])
    // One second; the delivery itself would be given three.
    expect(performance.now() - (collector.deliveries.at(-1)?.at ?? 0)).toBeLessThan(2500)
  })
})

describe('without the packages for traces', () => {
  test('the service starts as long as no traces are wanted, or else says in one sentence what to install', async () => {
    const folder = await withoutPackages()
    const environment = { ...bare, ...onDatabase(database.url), PORT: '0' }
    const start = (more: Record<string, string> = {}) =>
      followServer(
        spawn(process.execPath, ['src/server.ts'], {
          cwd: folder,
          env: { ...environment, ...more },
          stdio: ['ignore', 'pipe', 'pipe'],
        }),
      )
    const off = start()
    expect((await send(`${await off.listening}/ready`)).status).toBe(200)
    const on = start({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' })
    expect(await on.exited).toEqual({
      code: 1,
      output:
        'OTEL_EXPORTER_OTLP_ENDPOINT is set, but the packages for traces are not installed; run `npm run install:traces`, or leave it out.\n',
    })
  })

  test('`npm run install:traces` installs them in the versions that are tested', () => {
    const { scripts, devDependencies } = JSON.parse(readFileSync('package.json', 'utf8')) as {
      scripts: Record<string, string>
      devDependencies: Record<string, string>
    }
    const wanted = Object.entries(devDependencies).filter(([name]) => isForTraces(name))
    const named = scripts['install:traces']?.split(' ').filter((word) => word.startsWith('@'))
    expect(named).toEqual(wanted.map(([name, version]) => `${name}@${version}`))
  })

  /** The project as `npm ci --omit=dev` leaves it; the API of OpenTelemetry comes with the client of Prometheus. */
  async function withoutPackages(): Promise<string> {
    const folder = await temporaryFolder()
    for (const name of ['src', 'drizzle', 'package.json']) await cp(name, join(folder, name), { recursive: true })
    const place = (name: string) =>
      symlink(join(process.cwd(), 'node_modules', name), join(folder, 'node_modules', name))
    await mkdir(join(folder, 'node_modules'))
    for (const name of await readdir('node_modules')) {
      if (!name.startsWith('@')) await place(name)
      else {
        await mkdir(join(folder, 'node_modules', name))
        const members = (await readdir(join('node_modules', name))).map((member) => `${name}/${member}`)
        for (const member of members) if (!isForTraces(member) || member === '@opentelemetry/api') await place(member)
      }
    }
    return folder
  }
})

function isForTraces(name: string): boolean {
  return name === '@fastify/otel' || name.startsWith('@opentelemetry/')
}

function lineOf(output: string, words: string): unknown {
  const line = output.split('\n').find((text) => text.includes('"msg"') && text.includes(words))
  return JSON.parse(line ?? '{}') as unknown
}

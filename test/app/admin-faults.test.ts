import { once } from 'node:events'
import { open } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { describe, expect, test } from 'vitest'
import { runAdmin, runAdminProcess, runNode } from '#test/support/admin.ts'
import { cleanUp, testBeside } from '#test/support/clean-up.ts'
import { onDatabase } from '#test/support/process.ts'
import { cloneDatabase } from '#test/support/service.ts'

const redisAway = { REDIS_URL: 'redis://127.0.0.1:1' }

/** A server that treats each connection so; resolves to the URL of a database there. */
async function listening(treat: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>()
  const server: Server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    treat(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  cleanUp(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return `postgres://u:p@127.0.0.1:${(server.address() as { port: number }).port}/latchkey`
}

const refusing = async () => 'postgres://u:p@127.0.0.1:1/latchkey'
const closing = () => listening((socket) => socket.end())
const resetting = () => listening((socket) => socket.resetAndDestroy())
const silent = () => listening(() => {})

describe.concurrent('a command whose database', () => {
  for (const [fault, args, at] of [
    ['refuses connections', ['list'], refusing],
    ['refuses connections', ['import', '-'], refusing],
    ['is behind a proxy that accepts and closes', ['list'], closing],
    ['is behind a proxy that accepts and closes', ['migrate'], closing],
    ['is behind a proxy that accepts and resets', ['keys', 'list'], resetting],
    ['takes connections and says nothing', ['list'], silent],
  ] as const)
    testBeside(`${fault} ends with one sentence and exit code 1: ${args.join(' ')}`, async () => {
      const row = '{"email":"a@example.com","password_hash":null}\n'
      // Ends by itself, whatever is left of its connections.
      const { code, stdout, stderr } = await runAdminProcess(await at(), args, row, { environment: redisAway })
      expect([code, stdout]).toEqual([1, ''])
      expect(stderr).toMatch(/^The database [^\n]+[.?]\n$/)
    })

  testBeside('runs needs no Redis, whatever REDIS_URL says', async () => {
    const { url } = await cloneDatabase()
    const { code, stderr } = await runAdminProcess(url, ['list'], '', { environment: redisAway })
    expect([code, stderr]).toEqual([0, ''])
  })

  testBeside('is there makes no signing key', async () => {
    const { url, sql } = await cloneDatabase()
    await runAdmin(url, ['list'], '', { ALGORITHM: 'ES256' })
    await runAdmin(url, ['create', '--email', 'a@example.com'], 'correct horse battery staple', { ALGORITHM: 'ES256' })
    expect(await sql`select kid from signing_keys`).toEqual([])
  })
})

describe.concurrent('the service', () => {
  const build = `
    import { buildApp } from '#src/app.ts'
    import { readConfig } from '#src/config.ts'
    await buildApp(readConfig(process.env)).catch((error) => console.log(error.code))`

  for (const [fault, more] of [
    ['refuses connections', {}],
    ['lets the pool be opened and has no tables', { DATABASE_MIGRATE: 'off' }],
  ] as const)
    testBeside(`leaves nothing open when it cannot be built: the database ${fault}`, async () => {
      const { url } = await cloneDatabase({ empty: true })
      const environment = {
        ...onDatabase('DATABASE_MIGRATE' in more ? url : 'postgres://u:p@127.0.0.1:1/latchkey'),
        ...redisAway,
        ...more,
        LOG_LEVEL: 'silent',
      }
      // Ends by itself, or the test does not.
      const { code } = await runNode(['--input-type=module', '-e', build], '', { environment })
      expect(code).toBe(0)
    })
})

describe('a file that cannot be read or written', () => {
  const row = '{"email":"a@example.com","password_hash":null}\n'
  const full = '/dev/full'

  test.runIf(process.platform === 'linux')('is said to be what it is, never the database', async () => {
    const { url } = await cloneDatabase()
    const header = `${'x'.repeat(2 << 20)},email\na,b@example.com\n`
    const disk = await open(full, 'w')
    cleanUp(() => disk.close())
    const cases = await Promise.all([
      runAdmin(url, ['import', '-', '--report', full], 'not JSON\n'),
      runAdmin(url, ['import', '-', '--report', '/nowhere/report.jsonl'], row),
      runAdmin(url, ['import', '/etc', '--format', 'jsonl']),
      runAdmin(url, ['import', '-', '--format', 'csv'], header),
      runAdmin(url, ['export', '/proc/nothing.jsonl']),
      (await runAdmin(url, ['import', '-'], row), runAdminProcess(url, ['export'], '', { stdout: disk.fd })),
    ])
    const sentences = cases.map(({ stderr }) => stderr.trimEnd())
    expect(cases.map(({ code }) => code)).toEqual(cases.map(() => 1))
    expect(sentences.join('\n')).not.toMatch(/reachable|\.ts:/)
    for (const [i, words] of [/disk is full/, /\/nowhere/, /is a folder/, /CSV/, /\/proc/, /disk is full/].entries())
      expect(sentences[i]).toMatch(words)
  })

  test('nor is a statement that the database ends in the middle of an import', async () => {
    const { url, sql } = await cloneDatabase()
    await sql.unsafe(`
      create function late() returns trigger language plpgsql as
        $$ begin raise exception using errcode = '57014', message = 'secret'; end $$;
      create trigger late before insert on users for each row when (new.email like 'late%') execute function late()`)
    const rows = Array.from({ length: 4001 }, (_, i) => ({
      email: `${i < 4000 ? 'u' : 'late'}${i}@example.com`,
      password_hash: null,
    }))
    const file = rows.map((row) => `${JSON.stringify(row)}\n`).join('')
    const { code, stderr } = await runAdmin(url, ['import', '-'], file)
    expect(code).toBe(1)
    expect(stderr).toMatch(/took too long.*4000.*again/s)
    expect(stderr).not.toMatch(/secret|reachable/)
    await sql`drop trigger late on users`
    expect((await runAdmin(url, ['import', '-'], file)).stdout).toContain('Imported 1 users of 4001 rows')
  })
})

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { requireCurrentSchema } from '#src/db/migrate.ts'
import { signedUp } from '#test/support/actors.ts'
import { cleanUp } from '#test/support/clean-up.ts'
import { temporaryFolder } from '#test/support/process.ts'
import { cloneDatabase, startService, type TestDatabase } from '#test/support/service.ts'

const version = /PgBouncer (\d+)\.(\d+)/.exec(spawnSync('pgbouncer', ['--version'], { encoding: 'utf8' }).stdout ?? '')
const isInstalled = version !== null
if (!isInstalled) process.stderr.write('PgBouncer is not installed: poolers are not tried.\n')
const keepsStatements = Number(version?.[1]) > 1 || Number(version?.[2]) >= 21
const withoutMigrations = { DATABASE_MIGRATE: 'off' }

describe.skipIf(!isInstalled)('a pooler', () => {
  test('in session mode serves', async () => {
    const database = await cloneDatabase()
    const url = await startPgBouncer(database, 'pool_mode = session')
    const { app } = await startService(withoutMigrations, { url, sql: database.sql })
    const { me, refresh } = await signedUp(app)
    expect([(await me()).statusCode, (await refresh()).statusCode]).toEqual([200, 200])
  })

  test('in transaction mode without prepared statements stops the start', async () => {
    const database = await cloneDatabase()
    const settings = ['pool_mode = transaction', ...(keepsStatements ? ['max_prepared_statements = 0'] : [])]
    const url = await startPgBouncer(database, ...settings)
    await expect(requireCurrentSchema(url)).rejects.toThrow('The pooler loses prepared statements')
  })

  test.skipIf(!keepsStatements)('in transaction mode with prepared statements serves', async () => {
    const database = await cloneDatabase()
    const url = await startPgBouncer(database, 'pool_mode = transaction', 'max_prepared_statements = 100')
    const { app } = await startService(withoutMigrations, { url, sql: database.sql })
    const actors = await Promise.all(Array.from({ length: 8 }, () => signedUp(app)))
    const replies = await Promise.all(actors.flatMap(({ me, refresh }) => [me(), refresh()]))
    expect(new Set(replies.map(({ statusCode }) => statusCode))).toEqual(new Set([200]))
  })

  test('with one connection lets the start go on', async () => {
    const database = await cloneDatabase()
    const url = await startPgBouncer(database, 'pool_mode = transaction', 'default_pool_size = 1')
    await expect(requireCurrentSchema(url)).resolves.toBeUndefined()
  })
})

/** Resolves to the URL of the database behind a PgBouncer of its own. */
async function startPgBouncer({ url }: TestDatabase, ...settings: string[]): Promise<string> {
  const target = new URL(url)
  const name = target.pathname.slice(1)
  const folder = target.searchParams.get('host') ?? target.hostname
  const port = await freePort()
  const own = await temporaryFolder()
  const users = join(own, 'users.txt')
  const file = join(own, 'pgbouncer.ini')
  await writeFile(users, `"${target.username}" ""\n`)
  await writeFile(
    file,
    `[databases]
${name} = host=${folder} port=${target.port || 5432} dbname=${name} user=${target.username}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${users}
ignore_startup_parameters = statement_timeout,lock_timeout
${settings.join('\n')}
`,
  )
  // It does not run as root, and has to get to the socket.
  const owner = folder.startsWith('/') ? await stat(folder) : await stat(own)
  const [uid, gid] = owner.uid === 0 ? [65_534, 65_534] : [owner.uid, owner.gid]
  for (const path of [own, users, file]) {
    await chown(path, uid, gid)
    await chmod(path, 0o755)
  }
  const child = spawn('pgbouncer', [file], { uid, gid, stdio: ['ignore', 'ignore', 'pipe'] })
  cleanUp(async () => {
    child.kill('SIGKILL')
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  })
  for await (const line of child.stderr) if (String(line).includes('process up')) break
  target.searchParams.delete('host')
  target.hostname = '127.0.0.1'
  target.port = String(port)
  return target.href
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  return port
}

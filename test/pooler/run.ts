/**
 * Runs the tests of the use cases and of the APIs with a PgBouncer in transaction mode between the service and a PostgreSQL
 * 15, under a role with the rights and the time limits of docs/operations.md; what makes databases goes past it. Prints
 * how many connections there were, and exits with 1 when a test has failed or the service had its connections to itself.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startVitest } from 'vitest/node'
import { connectAlone } from '#src/db/connect-alone.ts'
import { startDebianPostgres } from '#test/support/debian-postgres.ts'
import { keepsStatements, pgBouncerVersion, startPgBouncer } from '#test/support/pgbouncer.ts'
import { freePort } from '#test/support/process.ts'
import { makeServiceRole, serviceRole } from '#test/support/service-role.ts'
import { watchPools } from './pools.ts'

/** Fewer than the service opens, and taken in turn, so that a prepared statement is seldom where it was. */
const settings = [
  'pool_mode = transaction',
  'max_prepared_statements = 100',
  'default_pool_size = 5',
  'server_round_robin = 1',
  'max_client_conn = 2000',
]

const installed = execFileSync('sh', [join(import.meta.dirname, 'pgbouncer.sh')], { encoding: 'utf8' }).trim()
process.env['PATH'] = `${installed}:${process.env['PATH']}`
const version = pgBouncerVersion()
if (!version || !keepsStatements(version)) throw new Error(`PgBouncer ${version} cannot do it`)

const folder = mkdtempSync(join(tmpdir(), 'latchkey-pooler-'))
// Postgres and PgBouncer run as other users, who have to get through.
chmodSync(folder, 0o755)
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const postgres = await startDebianPostgres(join(folder, 'postgres'))
try {
  process.exitCode = await tryThrough(postgres.url)
} finally {
  await postgres.stop('immediate')
}

async function tryThrough(server: string): Promise<number> {
  await makeServiceRole(server)
  const owner = connectAlone(server)
  const own = join(folder, 'pgbouncer')
  mkdirSync(own)
  const pooler = await startPgBouncer({ server, folder: own, port: await freePort(), settings, users: [serviceRole] })
  const url = new URL(pooler.urlOf('postgres'))
  url.username = serviceRole
  Object.assign(process.env, { NODE_ENV: 'test', TEST_DATABASE_URL: url.href, TEST_DATABASE_OWNER_URL: server })

  const pools = watchPools(pooler.consoleUrl, owner, serviceRole)
  const vitest = await startVitest(
    'test',
    process.argv.length > 2 ? process.argv.slice(2) : ['test/features/', 'test/contracts/'],
  )
  const tests = vitest.state.getTestModules().flatMap(({ children }) => [...children.allTests()])
  await vitest.close()
  const seen = await pools.stop()
  await pooler.kill()
  await owner.end()

  const passed = tests.filter((test) => test.result().state === 'passed').length
  process.stdout.write(`
PgBouncer ${version}, pool_mode ${seen.modes.join()}: ${passed} of ${tests.length} tests passed.
At once at most ${seen.clients} clients of one database on ${seen.servers} connections, and ${seen.backends} connections of ${serviceRole} to the whole server.
${seen.transactions} transactions; statements were prepared ${seen.prepared} times and run ${seen.runs} times by name.
`)
  const isPooled = seen.modes.join() === 'transaction' && seen.clients > seen.servers && seen.servers > 1
  if (!isPooled) process.stderr.write('The connections were not shared, so nothing was tried.\n')
  return passed > 0 && isPooled && !process.exitCode ? 0 : 1
}

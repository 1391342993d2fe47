import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { connectAlone } from '#src/db/connect-alone.ts'
import { migrateDatabase } from '#src/db/migrate.ts'
import { cleanUp } from '#test/support/clean-up.ts'
import { lacksDebianPostgres, startDebianPostgres } from '#test/support/debian-postgres.ts'
import { keepsStatements, pgBouncerVersion, startPgBouncer } from '#test/support/pgbouncer.ts'
import { freePort, temporaryFolder } from '#test/support/process.ts'
import { makeServiceRole, serviceRole } from '#test/support/service-role.ts'
import { clientAt, gatherCrowd } from './crowd.ts'
import { startInstance } from './instances.ts'
import { haproxy, lacksProxy, startProxy } from './proxies.ts'

/** The promise is 5 seconds, on a machine of one's own. */
const recoveryMs = 20_000
const version = pgBouncerVersion()
const lacks = [
  lacksProxy(haproxy),
  lacksDebianPostgres(),
  spawnSync('redis-server', ['--version']).error && 'there is no redis-server',
  version && keepsStatements(version) ? undefined : `PgBouncer ${version ?? ''} loses prepared statements`,
].filter((lack) => lack !== undefined)
if (lacks.length > 0) console.log(`The restarts of Postgres, PgBouncer and Redis are skipped: ${lacks.join(', ')}.`)

describe.skipIf(lacks.length > 0)('under load a restart of Redis, of PgBouncer and of Postgres', () => {
  test('means 503 at most, ends no session and lets the limits go on', async () => {
    const { owner, postgres, pooler, url } = await startPooledPostgres()
    const redis = await startRedis()
    const environment = { DATABASE_MIGRATE: 'off', REDIS_URL: redis.url, DRAIN_SECONDS: '2' }
    const instances = [await startInstance(url, environment), await startInstance(url, environment)]
    const port = await startProxy(
      haproxy,
      instances.map(({ at }) => at),
    )
    // No session refreshes as often as its limit would refuse.
    const crowd = await gatherCrowd(port, { size: 16, restMs: 1100 })
    const guess = guesser(port)
    await crowd.everybodyGoesOn()
    await vi.waitUntil(async () => (await guess(1))[0] === 401, 20_000)

    const count = (name: RegExp) =>
      [...crowd.answers].reduce((sum, [answer, times]) => sum + (name.test(answer) ? times : 0), 0)
    const countsInRedis = async (up: number) => {
      const values = await Promise.all(instances.map(({ metric }) => metric('auth_redis_up')))
      return values.every((value) => value === up)
    }
    const restart = async (name: string, service: Restartable, isMissed: () => unknown, meanwhile = async () => {}) => {
      const [answered, unavailable] = [count(/ 20\d$/), count(/ 503/)]
      const began = performance.now()
      await service.stop()
      await vi.waitUntil(isMissed, { timeout: 20_000, interval: 50 })
      await meanwhile()
      await service.start()
      const [wasAway, answers, back] = [performance.now() - began, count(/ 20\d$/), performance.now()]
      await vi.waitUntil(() => count(/ 20\d$/) > answers, { timeout: 30_000, interval: 20 })
      const backAfter = performance.now() - back
      await crowd.everybodyGoesOn()
      expect({ name, refused: crowd.refused(), lost: crowd.lost }).toEqual({ name, refused: [], lost: [] })
      const [more, missed] = [count(/ 20\d$/) - answered, count(/ 503/) - unavailable]
      console.log(
        `${name}: away for ${Math.round(wasAway)} ms, answered again after ${Math.round(backAfter)} ms; ${more} answers, ${missed} times 503`,
      )
      expect(backAfter).toBeLessThan(recoveryMs)
      return missed
    }
    const isUnavailable = () => {
      const before = count(/ 503/)
      return () => count(/ 503/) > before + 10
    }

    const limited = async () => {
      expect(await guess(25)).toContain(429)
    }
    expect(await restart('Redis, killed', redis, () => countsInRedis(0), limited)).toBe(0)
    await vi.waitUntil(() => countsInRedis(1), { timeout: 20_000 })
    // It came back empty, and both count in it again.
    expect(await guess(11)).toContain(429)

    const [fast, crash] = (['fast', 'immediate'] as const).map((mode) => ({
      ...postgres,
      stop: () => postgres.stop(mode),
    }))
    await restart('PgBouncer, killed', { stop: pooler.kill, start: pooler.start }, isUnavailable())
    await restart('Postgres, stopped', fast as Restartable, isUnavailable())
    await restart('Postgres, crashed', crash as Restartable, isUnavailable())
    await crowd.stop()

    for (const { metric } of instances) expect(await metric('auth_refresh_total{outcome="reused"}')).toBe(0)
    const ended = await owner`select revoke_reason as reason from sessions where revoked_at is not null group by 1`
    expect(ended).toEqual([{ reason: 'logout' }])
    expect(count(/ bare$/)).toBe(0)
  }, 300_000)
})

interface Restartable {
  readonly stop: () => Promise<void>
  readonly start: () => Promise<void>
}

/** Debian's Postgres with a migrated database, and a PgBouncer in transaction mode to it, as docs/operations.md has them. */
async function startPooledPostgres() {
  const postgres = await startDebianPostgres(join(await temporaryFolder(), 'postgres'))
  cleanUp(() => postgres.stop('immediate'))
  await makeServiceRole(postgres.url)
  const admin = connectAlone(postgres.url)
  await admin`create database latchkey`
  await admin.end()
  await migrateDatabase(postgres.urlOf('latchkey'))
  // Fewer connections than the instances would open.
  const settings = ['pool_mode = transaction', 'max_prepared_statements = 100', 'default_pool_size = 4']
  const own = { server: postgres.url, folder: await temporaryFolder(), port: await freePort() }
  const pooler = await startPgBouncer({ ...own, settings, users: [serviceRole] })
  cleanUp(pooler.kill)
  const url = new URL(pooler.urlOf('latchkey'))
  url.username = serviceRole
  const owner = connectAlone(postgres.urlOf('latchkey'))
  cleanUp(() => owner.end({ timeout: 0 }))
  return { owner, postgres, pooler, url: url.href }
}

/** A Redis on a port that it keeps, and which forgets everything when it ends. */
async function startRedis(): Promise<Restartable & { readonly url: string }> {
  const port = await freePort()
  const options = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', await temporaryFolder()]
  let child: ChildProcess
  const start = async () => {
    const started = spawn('redis-server', options, { stdio: ['ignore', 'pipe', 'inherit'] })
    child = started
    for await (const chunk of started.stdout.iterator({ destroyOnReturn: false }))
      if (String(chunk).includes('Ready to accept connections')) break
    started.stdout.resume()
  }
  const stop = async () => {
    child.kill('SIGKILL')
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  }
  await start()
  cleanUp(stop)
  return { url: `redis://127.0.0.1:${port}`, start, stop }
}

/** Somebody who guesses at one password from one address; resolves to the statuses. */
function guesser(port: number) {
  const send = clientAt(port, '127.9.0.1')
  return async (times: number) => {
    const statuses: number[] = []
    for (let i = 0; i < times; i++)
      statuses.push((await send('POST', '/api/v1/token', { username: 'ada@example.com', password: 'wrong' })).status)
    return statuses
  }
}

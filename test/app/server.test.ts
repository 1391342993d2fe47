import { stat, readFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { once } from 'node:events'
import { join } from 'node:path'
import { describe, expect } from 'vitest'
import { testBeside } from '#test/support/clean-up.ts'
import { onDatabase, send, startServer, temporaryFolder } from '#test/support/process.ts'
import { cloneDatabase } from '#test/support/service.ts'

describe.concurrent('the server without any settings', () => {
  testBeside(
    'runs on its own Postgres, keeps its key to itself, and refuses a second start on the same folder',
    async () => {
      const folder = await temporaryFolder()
      const first = startServer({ DATA_DIR: folder })
      const base = await first.listening
      expect((await send(`${base}/ready`)).status).toBe(200)
      const key = await stat(join(folder, 'secret-key'))
      expect(key.mode & 0o777).toBe(0o600)
      expect((await readFile(join(folder, 'secret-key'), 'utf8')).trim()).toMatch(/^[0-9a-f]{64}$/)

      const second = await startServer({ DATA_DIR: folder }).exited
      expect([second.code, second.output.trim().split('\n').length]).toEqual([1, 1])
      expect(second.output).toContain(`Another Latchkey runs on ${folder}`)

      first.child.kill('SIGINT')
      const { code, output } = await first.exited
      expect(code).toBe(0)
      expect(output).toContain('development default')
    },
  )
})

describe.concurrent('the server', () => {
  testBeside('names a busy port in one sentence', async () => {
    const { url } = await cloneDatabase()
    const occupant = createServer().listen(0, '127.0.0.1')
    await once(occupant, 'listening')
    const { port } = occupant.address() as { port: number }
    const { code, output } = await startServer({ ...onDatabase(url), PORT: String(port), LOG_LEVEL: 'silent' }).exited
    expect([code, output]).toEqual([1, 'The port is in use by another program; stop it or set PORT.\n'])
    occupant.close()
  })

  testBeside(
    'in production refuses the embedded Postgres and weak secrets, naming every fault and no value',
    async () => {
      const { code, output } = await startServer({ ENVIRONMENT: 'production', SECRET_KEY: 'haunted97!' }).exited
      expect(code).toBe(1)
      expect(output).toMatch(/DATABASE_URL: .*\n.*PUBLIC_URL: .*\n.*SECRET_KEY: is shorter than 32 bytes/)
      expect(output).not.toContain('haunted97!')
    },
  )

  testBeside('drains on SIGTERM: requests under way are answered, then it exits 0', async () => {
    const { url } = await cloneDatabase()
    const server = startServer(onDatabase(url))
    const base = await server.listening
    const password = 'correct horse battery staple'
    const requests = Array.from({ length: 20 }, (_, i) =>
      send(`${base}/api/v1/users/`, { email: `drain${i}@example.com`, password }),
    )
    // The first answer means that the others are on their way.
    await Promise.race(requests)
    server.child.kill('SIGTERM')
    const statuses = (await Promise.all(requests)).map(({ status }) => status)
    expect((await server.exited).code).toBe(0)
    expect(new Set(statuses)).toEqual(new Set([201]))
  })

  testBeside(
    'takes the same signal once more for one, and exits at once on one that comes a second later',
    async () => {
      const { url } = await cloneDatabase()
      const production = { ENVIRONMENT: 'production', PUBLIC_URL: 'https://auth.example.com' }
      const server = startServer({ ...onDatabase(url), ...production })
      const base = await server.listening
      const signalled = performance.now()
      server.child.kill('SIGTERM')
      const timer = setInterval(() => server.child.kill('SIGTERM'), 10)
      await readyFails(base)
      expect((await server.exited).code).toBe(1)
      clearInterval(timer)
      expect(performance.now() - signalled).toBeGreaterThan(1000)
    },
  )

  testBeside('ends with 0 although a connection was opened that never sends anything', async () => {
    const { url } = await cloneDatabase()
    const server = startServer(onDatabase(url))
    const { hostname, port } = new URL(await server.listening)
    const silent = connect(Number(port), hostname)
    await once(silent, 'connect')
    server.child.kill('SIGTERM')
    expect((await server.exited).code).toBe(0)
    silent.destroy()
  })
})

/** Readiness goes first: /ready fails while the service still listens. */
async function readyFails(base: string): Promise<void> {
  for (;;) {
    const { status } = await send(`${base}/ready`)
    if (status === 503) return
    if (status === 0) throw new Error('it no longer listens')
  }
}

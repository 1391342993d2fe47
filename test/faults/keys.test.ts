import { randomUUID } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { createRemoteJWKSet, customFetch, decodeProtectedHeader, jwtVerify } from 'jose'
import { describe, expect, test } from 'vitest'
import { password } from '#test/support/actors.ts'
import { runAdmin } from '#test/support/admin.ts'
import { onDatabase, send, type ServerProcess, startServer } from '#test/support/process.ts'
import { cloneDatabase, secretKey } from '#test/support/service.ts'

const issuer = 'https://auth.example.com'

describe('two instances behind a round-robin, under load', () => {
  test('refuse no token while ALGORITHM changes on one after the other, nor after keys rotate --now', async () => {
    const { url, sql } = await cloneDatabase()
    const start = (algorithm: string) => startServer({ ...onDatabase(url), PUBLIC_URL: issuer, ALGORITHM: algorithm })
    const balancer = new RoundRobin()
    const former = [start('HS256'), start('HS256')]
    for (const instance of former) await balancer.add(instance)
    const load = new Load(balancer)
    for (let n = 0; n < 4; n++) await load.addClient()

    for (const instance of former) {
      await balancer.remove(instance)
      await balancer.add(start('ES256'))
      await load.goesOn()
    }
    expect([...load.kids.values()]).toEqual(['HS256'])

    await sql`update signing_keys set signs_from = now() where algorithm = 'ES256'`
    // One instance reads the keys for this, and signs with the new one before the other has heard of it.
    await balancer.send('/.well-known/jwks.json')
    await load.until(() => [...load.kids.values()].includes('ES256'))
    await load.goesOn()

    const rotated = await runAdmin(url, ['keys', 'rotate', '--now'], '', { ALGORITHM: 'ES256' })
    expect([rotated.code, rotated.stdout]).toEqual([0, 'The next key is published and signs now.\n'])
    await balancer.send('/.well-known/jwks.json')
    await load.until(() => load.kids.size === 3)
    await load.goesOn()

    expect(await load.stop()).toBeGreaterThan(190)
    expect(balancer.unavailable).toBeLessThan(5)
  }, 180_000)
})

/** Sends each request to the next instance. */
class RoundRobin {
  #instances: { process: ServerProcess; base: string }[] = []
  #turn = 0
  /** Answers that a machine that stood still may have caused. */
  unavailable = 0

  get next(): string {
    return this.#instances[this.#turn++ % this.#instances.length]?.base ?? ''
  }

  /** As balancers and clients do, asks the next instance when one has gone without an answer, or is unavailable. */
  async send(path: string, body?: object, headers?: Record<string, string>, tries = 50): ReturnType<typeof send> {
    const reply = await send(`${this.next}${path}`, body, headers)
    if (reply.status === 503) this.unavailable++
    return [0, 503].includes(reply.status) && tries > 0 ? this.send(path, body, headers, tries - 1) : reply
  }

  async add(process: ServerProcess): Promise<void> {
    this.#instances.push({ process, base: await process.listening })
  }

  async remove(process: ServerProcess): Promise<void> {
    this.#instances = this.#instances.filter((instance) => instance.process !== process)
    process.child.kill('SIGTERM')
    expect((await process.exited).code).toBe(0)
  }
}

/** Clients that use and refresh their tokens all the time; each new token is judged by jose, too. */
class Load {
  /** Key ids of the tokens, with their algorithms. */
  readonly kids = new Map<string, string>()
  readonly #balancer: RoundRobin
  readonly #clients: Promise<void>[] = []
  readonly #answers = new EventEmitter()
  readonly #failure = new AbortController()
  readonly #keySet
  #running = true
  #answered = 0

  constructor(balancer: RoundRobin) {
    this.#balancer = balancer
    // As a resource server has it: it fetches the set anew when it meets a key that it does not know.
    this.#keySet = createRemoteJWKSet(new URL(`${issuer}/.well-known/jwks.json`), {
      cooldownDuration: 0,
      [customFetch]: () => fetch(`${balancer.next}/.well-known/jwks.json`),
    })
  }

  async addClient(): Promise<void> {
    const email = `${randomUUID()}@example.com`
    await this.#balancer.send('/api/v1/users/', { email, password })
    const { body } = await this.#balancer.send('/api/v1/token', { username: email, password })
    const client = this.#run(body)
    client.catch((error: unknown) => this.#failure.abort(error))
    this.#clients.push(client)
  }

  /** Resolves when each client has had a dozen answers more. */
  async goesOn(): Promise<void> {
    const enough = this.#answered + 12 * this.#clients.length
    await this.until(() => this.#answered >= enough)
  }

  async until(reached: () => boolean): Promise<void> {
    while (!reached()) await once(this.#answers, 'answer', { signal: this.#failure.signal })
  }

  /** Resolves to how many requests were answered, all of them by 200. */
  async stop(): Promise<number> {
    this.#running = false
    await Promise.all(this.#clients)
    return this.#answered
  }

  async #run(tokens: Record<string, unknown>): Promise<void> {
    let { access_token: access, refresh_token: refresh } = tokens
    while (this.#running) {
      await this.#judge(String(access))
      for (let n = 0; n < 3; n++)
        this.#count(await this.#balancer.send('/api/v1/me', undefined, { authorization: `Bearer ${String(access)}` }))
      const reply = await this.#balancer.send('/api/v1/refresh', { refresh_token: refresh })
      this.#count(reply)
      ;({ access_token: access, refresh_token: refresh } = reply.body)
    }
  }

  #count({ status, body }: Awaited<ReturnType<typeof send>>): void {
    if (status !== 200) throw new Error(`${status} ${JSON.stringify(body)}`)
    this.#answered++
    this.#answers.emit('answer')
  }

  async #judge(token: string): Promise<void> {
    const { kid = '', alg = '' } = decodeProtectedHeader(token)
    this.kids.set(kid, alg)
    const expected = { issuer, audience: 'latchkey', typ: 'at+jwt', algorithms: [alg] }
    await (alg === 'HS256'
      ? jwtVerify(token, Buffer.from(secretKey), expected)
      : jwtVerify(token, this.#keySet, expected))
  }
}

import { randomUUID } from 'node:crypto'
import { Agent, request } from 'node:https'
import { setTimeout } from 'node:timers/promises'
import { password } from '#test/support/actors.ts'
import { cleanUp } from '#test/support/clean-up.ts'
import { site } from './proxies.ts'

interface Answer {
  readonly status: number
  readonly retryAfter: string | undefined
  readonly body: Record<string, unknown>
}

interface Options {
  readonly size: number
  /** Milliseconds that each rests after a turn. */
  readonly restMs: number
}

/** Clients behind a proxy who log in and then go on refreshing, asking, logging in and out, and registering. */
export interface Crowd {
  /** How often which answer came, such as `POST /api/v1/refresh 200`; a 503 with its detail, and `bare` where it has no Retry-After. */
  readonly answers: ReadonlyMap<string, number>
  /** Requests that ended without an answer. */
  readonly lost: readonly string[]
  /** Resolves when each has refreshed twice more; rejects when one is refused. */
  readonly everybodyGoesOn: () => Promise<void>
  /** The clients of status 401 and whatever else is neither a success nor a 503. */
  readonly refused: () => string[]
  readonly stop: () => Promise<void>
}

/** Sends requests on one kept connection from an address of the loopback. */
export function clientAt(port: number, localAddress: string) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  cleanUp(() => agent.destroy())
  const at = { host: '127.0.0.1', port, servername: site, rejectUnauthorized: false, localAddress, agent }
  return (method: string, path: string, body?: object, token?: string): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const headers = {
        host: site,
        ...(body ? { 'content-type': 'application/json' } : {}),
        ...(token ? { authorization: `Bearer ${token}` } : {}),
      }
      const sent = request({ ...at, method, path, headers, timeout: 20_000 }, (reply) => {
        let text = ''
        reply.setEncoding('utf8')
        reply.on('data', (chunk: string) => (text += chunk))
        reply.on('error', reject)
        reply.on('end', () =>
          resolve({ status: reply.statusCode ?? 0, retryAfter: reply.headers['retry-after'], body: parse(text) }),
        )
      })
      sent.on('timeout', () => sent.destroy(new Error('no answer for 20 seconds'))).on('error', reject)
      sent.end(body && JSON.stringify(body))
    })
}

/** Each client has an address, a connection and an account of its own. */
export async function gatherCrowd(port: number, { size, restMs }: Options): Promise<Crowd> {
  const answers = new Map<string, number>()
  const lost: string[] = []
  const turns = Array.from({ length: size }, () => 0)
  let isOver = false
  cleanUp(() => {
    isOver = true
  })

  const member = async (i: number) => {
    const send = clientAt(port, `127.1.${i >> 8}.${(i & 255) + 1}`)
    /** What is unavailable is asked again, as clients do, until it is answered. */
    const ask = async (method: string, path: string, body?: () => object, token?: string): Promise<Answer> => {
      for (;;) {
        const asked = performance.now()
        try {
          const answer = await send(method, path, body?.(), token)
          const bare = answer.status === 503 && answer.retryAfter === undefined ? ' bare' : ''
          // What is no answer of the service, and when it came.
          const alien = answer.status === 502 || answer.status === 504
          const after = alien ? ` after ${Math.round(performance.now() - asked)} ms` : ''
          // The proxy and the service say it in other words.
          const why = answer.status === 503 ? `, ${String(answer.body['detail'])}` : ''
          const name = `${method} ${path} ${answer.status}${after}${why}${bare}`
          answers.set(name, (answers.get(name) ?? 0) + 1)
          if (answer.status < 500) return answer
        } catch (error) {
          lost.push(`${method} ${path} ${String(error)}`)
        }
        if (isOver) return { status: 0, retryAfter: undefined, body: {} }
        await setTimeout(100)
      }
    }
    const email = `${randomUUID()}@example.com`
    await ask('POST', '/api/v1/users/', () => ({ email, password }))
    const logIn = () => ask('POST', '/api/v1/token', () => ({ username: email, password }))
    let { body: tokens } = await logIn()
    return async () => {
      for (let turn = 1; ; turn++) {
        if (isOver) return
        const refreshed = await ask('POST', '/api/v1/refresh', () => ({ refresh_token: tokens['refresh_token'] }))
        // Whoever is refused is counted, and does not go on.
        if (refreshed.status !== 200) return
        tokens = refreshed.body
        await ask('GET', '/api/v1/me', undefined, String(tokens['access_token']))
        // A third of them log in all the time, which no proxy may send twice.
        if (i % 3 === 0 || turn % 4 === 0) {
          const { body: other } = await logIn()
          await ask('POST', '/api/v1/logout', () => ({ scope: 'local' }), String(other['access_token']))
        }
        // Each time somebody else, because an account whose answer was lost is there.
        if (turn % 8 === 0)
          await ask('POST', '/api/v1/users/', () => ({ email: `${randomUUID()}@example.com`, password }))
        turns[i] = turn
        await setTimeout(restMs)
      }
    }
  }
  const members: Array<() => Promise<void>> = []
  for (let i = 0; i < size; i++) members.push(await member(i))
  const running = members.map((run) => run())
  const refused = () => [...answers.keys()].filter((answer) => !/ (20[014]$|503, .*(?<! bare)$)/.test(answer))
  return {
    answers,
    lost,
    refused,
    everybodyGoesOn: async () => {
      const before = [...turns]
      while (turns.some((turn, i) => turn < (before[i] ?? 0) + 2)) {
        if (refused().length > 0) throw new Error(`refused: ${refused().join(', ')}`)
        await setTimeout(20)
      }
    },
    stop: async () => {
      isOver = true
      await Promise.all(running)
    },
  }
}

function parse(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    return {}
  }
}

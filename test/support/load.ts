import { Agent, request } from 'node:http'

/** What became of a load: the answers by status, the connections that were refused, and the requests without an answer. */
export interface Outcome {
  readonly answers: Map<number, number>
  refused: number
  readonly lost: string[]
}

interface Sent {
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly body?: object
}

/** Clients that send one request after the other until a connection is refused or a request gets no answer. */
export async function untilRefused(base: string, clients: number, kept: boolean, next: () => Sent): Promise<Outcome> {
  const outcome: Outcome = { answers: new Map(), refused: 0, lost: [] }
  const agent = new Agent({ keepAlive: kept })
  const run = async () => {
    for (;;) {
      try {
        const status = await statusOf(base, next(), agent)
        outcome.answers.set(status, (outcome.answers.get(status) ?? 0) + 1)
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException
        if (code === 'ECONNREFUSED') outcome.refused += 1
        else outcome.lost.push(`${code} ${message}`)
        return
      }
    }
  }
  await Promise.all(Array.from({ length: clients }, run))
  agent.destroy()
  return outcome
}

function statusOf(base: string, { method, path, body }: Sent, agent: Agent): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = body ? { 'content-type': 'application/json' } : {}
    const sent = request(`${base}${path}`, { method, headers, agent, timeout: 15_000 }, (reply) => {
      reply.on('end', () => resolve(reply.statusCode ?? 0)).on('error', reject)
      reply.resume()
    })
    sent.on('timeout', () => sent.destroy(new Error('no answer for 15 seconds'))).on('error', reject)
    sent.end(body && JSON.stringify(body))
  })
}

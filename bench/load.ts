import { connect } from 'node:net'
import { setTimeout } from 'node:timers/promises'

/** What a load process is asked to do. */
export interface Job {
  /** Where to; of several, the connections are dealt out to all. */
  readonly base: string | readonly string[]
  readonly route: keyof typeof requests
  /** Tokens or usernames, dealt to the connections; each uses its own in turn. Refresh tokens must not be fewer. */
  readonly items: readonly string[]
  readonly connections: number
  readonly seconds: number
  /** Requests per second over all connections; without it each asks again as soon as it has its answer. */
  readonly rate?: number
}

export interface Load {
  readonly perSecond: number
  /** Milliseconds. */
  readonly p50: number
  readonly p99: number
  /** Answers other than 200. */
  readonly failed: number
  /** All of 200, those of the warm-up too. */
  readonly answers: number
  /** Processor time of the load itself, in ms. */
  readonly cpuMs: number
  readonly lastFailure: string
  /** The items as they are now: refresh tokens have moved on. */
  readonly items: string[]
}

interface Reply {
  readonly status: number
  readonly body: string
}

const warmUpMs = 500

const requests = {
  health: () => requestText('GET', '/health'),
  me: (token: string) => requestText('GET', '/api/v1/me', { authorization: `Bearer ${token}` }),
  validate: (token: string) => requestText('POST', '/api/v1/validate', { authorization: `Bearer ${token}` }, ''),
  refresh: (token: string) =>
    requestText('POST', '/api/v1/refresh', { 'content-type': 'application/json' }, `{"refresh_token":"${token}"}`),
  token: (username: string) =>
    requestText(
      'POST',
      '/api/v1/token',
      { 'content-type': 'application/x-www-form-urlencoded' },
      `grant_type=password&username=${username}&password=${benchPassword}`,
    ),
}

/** The password of every user of the benchmark. */
export const benchPassword = 'correct-horse-battery-staple'

/** Sends the load of one job over keep-alive connections and measures after a short warm-up. */
async function runJob(job: Job): Promise<Load> {
  const start = performance.now()
  const span = { start, from: start + warmUpMs, until: start + warmUpMs + job.seconds * 1000 }
  const times: number[] = []
  const failures: Reply[] = []
  const counted = { answers: 0 }
  const before = process.cpuUsage()
  const { items, connections } = job
  const hands = Array.from({ length: connections }, (_, place) =>
    items.length < connections
      ? [items[place % items.length] ?? '']
      : items.filter((_item, i) => i % connections === place),
  )
  await Promise.all(hands.map((hand, place) => askAgain({ job, hand, place, span, times, failures, counted })))
  const cpu = process.cpuUsage(before)

  times.sort((a, b) => a - b)
  const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? NaN
  return {
    perSecond: times.length / job.seconds,
    p50: at(0.5),
    p99: at(0.99),
    failed: failures.length,
    answers: counted.answers,
    cpuMs: (cpu.user + cpu.system) / 1000,
    lastFailure: failures.at(-1)?.body ?? '',
    items: hands.flat(),
  }
}

interface Connection {
  readonly job: Job
  readonly hand: string[]
  readonly place: number
  readonly span: { readonly start: number; readonly from: number; readonly until: number }
  readonly times: number[]
  readonly failures: Reply[]
  readonly counted: { answers: number }
}

async function askAgain({ job, hand, place, span, times, failures, counted }: Connection): Promise<void> {
  const bases = [job.base].flat()
  const { ask, close } = open(new URL(bases[place % bases.length] ?? ''))
  const interval = job.rate === undefined ? 0 : (1000 * job.connections) / job.rate
  for (let turn = 0; performance.now() < span.until; turn++) {
    const due = span.start + interval * (turn + place / job.connections)
    const early = due - performance.now()
    if (early > 0) await setTimeout(early)
    // A request that had to wait for the answer before it counts from when it was due, or slow answers would hide.
    const sent = interval > 0 && early <= 0 ? due : performance.now()
    const item = hand[turn % hand.length] ?? ''
    const reply = await ask(requests[job.route](item))
    const now = performance.now()
    if (reply.status === 200) counted.answers++
    if (reply.status !== 200) failures.push(reply)
    else if (job.route === 'refresh') hand[turn % hand.length] = /"refresh_token":"([^"]+)"/.exec(reply.body)?.[1] ?? ''
    if (sent >= span.from && now <= span.until && reply.status === 200) times.push(now - sent)
  }
  close()
}

/** One keep-alive connection with one request on its way at a time; a parser of its own costs least. */
function open({ hostname, port }: URL) {
  const socket = connect({ host: hostname, port: Number(port), noDelay: true }).setEncoding('latin1')
  let text = ''
  let waiting = Promise.withResolvers<Reply>()
  socket.on('data', (chunk: string) => {
    text += chunk
    const head = text.indexOf('\r\n\r\n') + 4
    const length = Number(/content-length: (\d+)/i.exec(text)?.[1])
    if (head < 4 || text.length < head + length) return
    const reply = { status: Number(text.slice(9, 12)), body: text.slice(head) }
    text = ''
    waiting.resolve(reply)
  })
  socket.on('error', (error) => waiting.reject(error))
  socket.on('close', () => waiting.reject(new Error('the connection was closed')))
  waiting.promise.catch(() => {})
  return {
    ask: (request: string): Promise<Reply> => {
      waiting = Promise.withResolvers()
      socket.write(request)
      return waiting.promise
    },
    close: () => socket.removeAllListeners().destroy(),
  }
}

function requestText(method: string, path: string, headers: Record<string, string> = {}, body?: string): string {
  const lines = Object.entries(body === undefined ? headers : { ...headers, 'content-length': body.length })
  const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  return `${method} ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\n${head}\r\n${body ?? ''}`
}

if (import.meta.main)
  process.once('message', (job: Job) => {
    process.once('disconnect', () => process.exit())
    void runJob(job).then((load) => process.send?.(load))
  })

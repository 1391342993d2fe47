import { randomUUID } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import type postgres from 'postgres'
import { parseRefreshToken } from '#src/features/tokens/tokens.ts'
import { password } from '#test/support/actors.ts'
import { send } from '#test/support/process.ts'

export interface Traffic {
  /** Where the instances listen. */
  readonly bases: readonly string[]
  readonly sql: postgres.Sql
  readonly isOver: () => boolean
}

interface Tokens {
  readonly access_token: string
  readonly refresh_token: string
}

type Ask = (path: string, body?: object, token?: string) => ReturnType<typeof send>

const people = 12
const pauseMs = 150

/** People who use all instances in every way that the metrics tell apart, and one who guesses passwords. */
export async function runTraffic(traffic: Traffic): Promise<void> {
  const roles = Array.from({ length: people }, (_, number) => live(traffic, number))
  await Promise.all([...roles, guess(traffic), probe(traffic)])
}

/** Each is at an address of their own, and each request goes to another instance. */
function from(number: number, { bases }: Traffic): Ask {
  let turn = number
  return async (path, body, token) => {
    const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` }
    const headers = { 'x-forwarded-for': `192.0.2.${number}`, ...authorization }
    await setTimeout(pauseMs * Math.random() * 2)
    return send(`${bases[turn++ % bases.length]}/api/v1${path}`, body, headers)
  }
}

async function live(traffic: Traffic, number: number): Promise<void> {
  const ask = from(number, traffic)
  while (!traffic.isOver()) {
    // The mail server has no room for some, and does not know others.
    const email = `${['full', 'gone', 'ada', 'eve'][number % 4]}-${randomUUID()}@example.com`
    await ask('/users/', { email, password })
    const { status, body } = await ask('/token', { username: email, password })
    if (status === 200) await useSession(traffic, ask, body as unknown as Tokens, number)
    await ask('/token', { username: email, password: 'a wrong one' })
    await ask('/forgot-password', { email })
  }
}

/** Ends with a logout, or with a token that was used twice. */
async function useSession({ sql, isOver }: Traffic, ask: Ask, first: Tokens, number: number): Promise<void> {
  let tokens = first
  const rotate = async () => {
    const before = tokens.refresh_token
    const { status, body } = await ask('/refresh', { refresh_token: before })
    if (status === 200) tokens = body as unknown as Tokens
    return before
  }
  /** The answer to it got lost. */
  const lose = () => ask('/refresh', { refresh_token: tokens.refresh_token })
  const session = parseRefreshToken(first.refresh_token)?.sessionId ?? ''
  const letHoursPass = () =>
    sql`update refresh_tokens set issued_at = issued_at - interval '3 hours' where session_id = ${session}`
  for (let round = 0; round < 4 && !isOver(); round++) {
    await ask('/me', undefined, tokens.access_token)
    await ask('/validate', {}, tokens.access_token)
    await lose()
    await rotate()
    const old = await rotate()
    await rotate()
    await ask('/refresh', { refresh_token: old })
    await lose()
    await letHoursPass()
    await rotate()
    await rotate()
  }
  if (number % 3 > 0) return void (await ask('/logout', {}, tokens.access_token))
  const spent = await rotate()
  await rotate()
  await letHoursPass()
  await ask('/refresh', { refresh_token: spent })
}

async function guess(traffic: Traffic): Promise<void> {
  const ask = from(250, traffic)
  while (!traffic.isOver()) await ask('/token', { username: 'admin@example.com', password: randomUUID() })
}

/** As a load balancer does. */
async function probe({ bases, isOver }: Traffic): Promise<void> {
  while (!isOver()) {
    await Promise.all(bases.map((base) => send(`${base}/ready`)))
    await setTimeout(500)
  }
}

import { Redis } from 'ioredis'
import type { Counters } from './counters-in-memory.ts'

/** The window of a key begins with its first count; a key without one, which nothing here makes, would count for ever. */
const counting = `
  local current = redis.call('INCR', KEYS[1])
  if current == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
  return { current, redis.call('PTTL', KEYS[1]) }`
const reading = `
  return { tonumber(redis.call('GET', KEYS[1]) or '0'), math.max(redis.call('PTTL', KEYS[1]), 0) }`
const givingBack = `
  local current = tonumber(redis.call('GET', KEYS[1]) or '0')
  if current > 1 then redis.call('DECR', KEYS[1]) elseif current == 1 then redis.call('DEL', KEYS[1]) end`

/**
 * A connection that answers or fails at once. A server that takes commands and answers none (half-open) costs a request
 * 200 ms; after 500 ms without a byte its socket is given up, and until another is ready no command is sent.
 */
export function connectRedis(url: string): Redis {
  return new Redis(url, {
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    connectTimeout: 500,
    commandTimeout: 200,
    socketTimeout: 500,
    retryStrategy: (attempt) => Math.min(attempt * 100, 2000),
  })
}

/** Counts in Redis, for all instances; rejects when it is away. */
export function countersInRedis(redis: Redis): Counters {
  const run = async (script: string, name: string, key: string, ...args: number[]) => {
    if (redis.status !== 'ready') throw new Error('Redis is away')
    return redis.call('eval', script, 1, `latchkey:limit:${name}:${key}`, ...args)
  }
  const tally = async (answer: Promise<unknown>) => {
    const [current, ttl] = (await answer) as [number, number]
    return { current, ttl }
  }
  return {
    count: ({ name, per }, key) => tally(run(counting, name, key, per * 1000)),
    read: ({ name }, key) => tally(run(reading, name, key)),
    giveBack: async ({ name }, key) => void (await run(givingBack, name, key)),
  }
}

/** Counts in the first place, and in the second whenever the first fails. */
export function firstOf(first: Counters, second: Counters): Counters {
  return {
    count: (limit, key) => first.count(limit, key).catch(() => second.count(limit, key)),
    read: (limit, key) => first.read(limit, key).catch(() => second.read(limit, key)),
    giveBack: (limit, key) => first.giveBack(limit, key).catch(() => second.giveBack(limit, key)),
  }
}

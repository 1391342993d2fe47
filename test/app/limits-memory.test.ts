import { afterEach, describe, expect, test, vi } from 'vitest'
import type { Limit } from '#src/features/limits.ts'
import { countersInMemory } from '#src/plugins/counters-in-memory.ts'

const guesses: Limit = { name: 'guesses', max: 10, per: 300 }
const requests: Limit = { name: 'requests', max: 100, per: 60 }
const times = async (count: number, act: (i: number) => Promise<unknown>) => {
  for (let i = 0; i < count; i++) await act(i)
}
const countOf = async (counters: ReturnType<typeof countersInMemory>, limit: Limit, keys: readonly string[]) => {
  const tallies = await Promise.all(keys.map((key) => counters.read(limit, key)))
  return tallies.filter(({ current }) => current > 0).length
}

describe('counters in memory', () => {
  test('hold as many keys as they may, of all limits together', async () => {
    const counters = countersInMemory(100)
    const keys = Array.from({ length: 1000 }, (_, i) => `key ${i}`)
    for (const limit of [guesses, requests]) await times(1000, (i) => counters.count(limit, `key ${i}`))
    expect((await countOf(counters, guesses, keys)) + (await countOf(counters, requests, keys))).toBe(100)
  })

  test('keep what is near its limit, whatever keys somebody makes up', async () => {
    const counters = countersInMemory(100)
    await times(8, () => counters.count(guesses, 'victim'))
    await times(100_000, (i) => counters.count(guesses, `made up ${i}`))
    expect((await counters.count(guesses, 'victim')).current).toBe(9)
  })

  test('keep what is near its limit although others come nearer', async () => {
    const counters = countersInMemory(100)
    await times(9, () => counters.count(guesses, 'victim'))
    await times(500, (i) => times(4, () => counters.count(guesses, `made up ${i}`)))
    expect((await counters.count(guesses, 'victim')).current).toBe(10)
  })

  test('lose keys of the limit that has the most', async () => {
    const counters = countersInMemory(100)
    const few = Array.from({ length: 10 }, (_, i) => `few ${i}`)
    await times(10, (i) => counters.count(guesses, `few ${i}`))
    await times(10_000, (i) => counters.count(requests, `many ${i}`))
    expect(await countOf(counters, guesses, few)).toBe(10)
  })

  test('read without counting, and give back down to nothing', async () => {
    const counters = countersInMemory(100)
    await times(2, () => counters.count(guesses, 'key'))
    expect(await countOf(counters, guesses, ['key'])).toBe(1)
    await times(3, () => counters.giveBack(guesses, 'key'))
    expect(await counters.read(guesses, 'key')).toEqual({ current: 0, ttl: 0 })
    expect((await counters.count(guesses, 'key')).current).toBe(1)
  })
})

describe('a window', () => {
  afterEach(() => void vi.useRealTimers())

  test('begins with the first count and ends for good', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const counters = countersInMemory(100)
    await counters.count(guesses, 'key')
    vi.setSystemTime(Date.now() + 299_000)
    expect(await counters.count(guesses, 'key')).toEqual({ current: 2, ttl: 1000 })
    vi.setSystemTime(Date.now() + 1000)
    expect(await counters.count(guesses, 'key')).toEqual({ current: 1, ttl: 300_000 })
  })

  test('that has ended leaves its place, before a key that counts has to go', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const counters = countersInMemory(10)
    for (let i = 0; i < 9; i++) await times(9, () => counters.count(guesses, `near its limit ${i}`))
    vi.setSystemTime(Date.now() + 299_000)
    await counters.count(guesses, 'new')
    vi.setSystemTime(Date.now() + 1000)
    await counters.count(guesses, 'newer')
    expect(await countOf(counters, guesses, ['new', 'newer'])).toBe(2)
  })
})

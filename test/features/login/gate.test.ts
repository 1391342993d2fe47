import { describe, expect, test } from 'vitest'
import { Gate } from '#src/features/login/gate.ts'

/** Tasks that end when they are told to. */
function tasks() {
  const ends: Array<() => void> = []
  return {
    ends,
    task: () => {
      const { promise, resolve } = Promise.withResolvers<void>()
      ends.push(resolve)
      return promise
    },
  }
}

describe('a gate', () => {
  test('lets no more tasks run at once than it is wide', async () => {
    const gate = new Gate(2, 10, () => {})
    const { ends, task } = tasks()
    const runs = Array.from({ length: 5 }, () => gate.run(task))
    expect([ends.length, gate.running, gate.waiting]).toEqual([2, 2, 3])
    for (let started = 3; started <= 5; started++) {
      ends[started - 3]?.()
      await runs[started - 3]
      expect([ends.length, gate.running]).toEqual([started, 2])
    }
    for (const end of ends) end()
    await Promise.all(runs)
    expect([gate.running, gate.waiting]).toEqual([0, 0])
  })

  test('lets exactly as many wait as its length, and refuses the next', async () => {
    let refused = 0
    const gate = new Gate(1, 3, () => refused++)
    const { ends, task } = tasks()
    const runs = Array.from({ length: 4 }, () => gate.run(task))
    await expect(gate.run(task)).rejects.toMatchObject({ code: 'unavailable', headers: { 'retry-after': '5' } })
    expect(refused).toBe(1)
    for (const [i, run] of runs.entries()) {
      ends[i]?.()
      await run
    }
    expect(ends).toHaveLength(4)
  })

  test('goes on after a task that fails', async () => {
    const gate = new Gate(1, 1, () => {})
    const [failed, next] = [gate.run(() => Promise.reject(new Error('no'))), gate.run(async () => 'next')]
    await expect(failed).rejects.toThrow('no')
    expect(await next).toBe('next')
  })
})

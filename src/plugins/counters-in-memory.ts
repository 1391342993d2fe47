import type { Limit } from '#src/features/limits.ts'

/** How often a key was counted in its window, and how much of the window is left (milliseconds). */
export interface Tally {
  readonly current: number
  readonly ttl: number
}

/** Where limits are counted. */
export interface Counters {
  readonly count: (limit: Limit, key: string) => Promise<Tally>
  /** As `count` answered last; counts nothing. */
  readonly read: (limit: Limit, key: string) => Promise<Tally>
  readonly giveBack: (limit: Limit, key: string) => Promise<void>
}

interface Entry {
  current: number
  shelf: number
  readonly endsAt: number
}

/** The entries of one limit, by how near they are to it: the last shelf holds those that are nearest. */
type Shelves = readonly Shelf[]
const shelvesOfLimit = 4

/**
 * Counts in memory, at most `capacity` keys in all. When it is full, the limit with the most keys loses one: of those
 * farthest from the limit the oldest. So who makes up keys pushes out made-up keys, not a counter that is about to refuse.
 */
export function countersInMemory(capacity: number): Counters {
  const limits = new Map<string, Shelves>()
  const shelvesOf = ({ name }: Limit): Shelves => {
    const shelves = limits.get(name) ?? Array.from({ length: shelvesOfLimit }, makeShelf)
    limits.set(name, shelves)
    return shelves
  }
  const makeRoom = () => {
    const all = [...limits.values()].map((shelves) => ({ shelves, size: sizeOf(shelves) }))
    if (all.reduce((sum, { size }) => sum + size, 0) < capacity) return
    const largest = all.reduce((one, other) => (other.size > one.size ? other : one))
    const shelf = largest.shelves.find(({ entries }) => entries.size > 0)
    shelf?.entries.delete(shelf.oldest() ?? '')
  }

  return {
    count: async (limit, key) => {
      const shelves = shelvesOf(limit)
      const entry = standing(shelves, key)
      if (entry) {
        entry.current++
        place(shelves, key, entry, limit)
        return tallyOf(entry)
      }
      for (const shelf of shelves) shelf.dropExpired()
      makeRoom()
      const fresh = { current: 1, shelf: 0, endsAt: Date.now() + limit.per * 1000 }
      place(shelves, key, fresh, limit)
      return tallyOf(fresh)
    },
    read: async (limit, key) => {
      const entry = standing(shelvesOf(limit), key)
      return entry ? tallyOf(entry) : { current: 0, ttl: 0 }
    },
    giveBack: async (limit, key) => {
      const shelves = shelvesOf(limit)
      const entry = standing(shelves, key)
      if (!entry) return
      entry.current--
      if (entry.current > 0) place(shelves, key, entry, limit)
      else shelves[entry.shelf]?.entries.delete(key)
    },
  }
}

function tallyOf({ current, endsAt }: Entry): Tally {
  return { current, ttl: endsAt - Date.now() }
}

function sizeOf(shelves: Shelves): number {
  return shelves.reduce((sum, { entries }) => sum + entries.size, 0)
}

function standing(shelves: Shelves, key: string): Entry | undefined {
  for (const { entries } of shelves) {
    const entry = entries.get(key)
    if (entry && entry.endsAt > Date.now()) return entry
    if (entry) entries.delete(key)
  }
  return undefined
}

function place(shelves: Shelves, key: string, entry: Entry, { max }: Limit): void {
  const next = Math.min(shelvesOfLimit - 1, Math.floor((entry.current * shelvesOfLimit) / max))
  if (next !== entry.shelf) shelves[entry.shelf]?.entries.delete(key)
  entry.shelf = next
  shelves[next]?.entries.set(key, entry)
}

interface Shelf {
  readonly entries: Map<string, Entry>
  readonly oldest: () => string | undefined
  readonly dropExpired: () => void
}

function makeShelf(): Shelf {
  const entries = new Map<string, Entry>()
  // Kept, because a new iterator would step over every deleted entry at the front again.
  let keys = entries.keys()
  let candidate: string | undefined
  const oldest = () => {
    while (entries.size > 0 && (candidate === undefined || !entries.has(candidate))) {
      const next = keys.next()
      if (next.done) keys = entries.keys()
      candidate = next.value
    }
    return entries.size > 0 ? candidate : undefined
  }
  /** At most two a time, so that no request pays for the others. */
  const dropExpired = () => {
    for (let i = 0; i < 2; i++) {
      const key = oldest()
      if (key === undefined || (entries.get(key)?.endsAt ?? 0) > Date.now()) return
      entries.delete(key)
    }
  }
  return { entries, oldest, dropExpired }
}

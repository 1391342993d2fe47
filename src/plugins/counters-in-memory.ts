import type { Limit } from '#src/core/limits.ts'

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
type Shelves = readonly Map<string, Entry>[]
const shelvesOfLimit = 4

/**
 * Counts in memory, at most `capacity` keys in all. When it is full, the limit with the most keys loses one: of those
 * farthest from the limit the oldest. So who makes up keys pushes out made-up keys, not a counter that is about to refuse.
 */
export function countersInMemory(capacity: number): Counters {
  const limits = new Map<string, Shelves>()
  const shelvesOf = ({ name }: Limit): Shelves => {
    const shelves = limits.get(name) ?? Array.from({ length: shelvesOfLimit }, () => new Map<string, Entry>())
    limits.set(name, shelves)
    return shelves
  }
  const sizeOf = (shelves: Shelves) => shelves.reduce((sum, { size }) => sum + size, 0)
  const makeRoom = () => {
    const all = [...limits.values()]
    if (all.reduce((sum, shelves) => sum + sizeOf(shelves), 0) < capacity) return
    const largest = all.toSorted((a, b) => sizeOf(b) - sizeOf(a))[0] ?? []
    const shelf = largest.find(({ size }) => size > 0)
    for (const key of shelf?.keys() ?? []) return void shelf?.delete(key)
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
      for (const shelf of shelves) dropExpired(shelf)
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
      else shelves[entry.shelf]?.delete(key)
    },
  }
}

function tallyOf({ current, endsAt }: Entry): Tally {
  return { current, ttl: endsAt - Date.now() }
}

function standing(shelves: Shelves, key: string): Entry | undefined {
  for (const shelf of shelves) {
    const entry = shelf.get(key)
    if (entry && entry.endsAt > Date.now()) return entry
    if (entry) shelf.delete(key)
  }
  return undefined
}

function place(shelves: Shelves, key: string, entry: Entry, { max }: Limit): void {
  const next = Math.min(shelvesOfLimit - 1, Math.floor((entry.current * shelvesOfLimit) / max))
  if (next !== entry.shelf) shelves[entry.shelf]?.delete(key)
  entry.shelf = next
  shelves[next]?.set(key, entry)
}

/** Drops what has expired at the old end of a shelf: at most two a time, so that no request pays for the others. */
function dropExpired(shelf: Map<string, Entry>): void {
  let seen = 0
  for (const [key, { endsAt }] of shelf) {
    if (endsAt > Date.now() || ++seen > 2) return
    shelf.delete(key)
  }
}

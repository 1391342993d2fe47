import { readdirSync, readFileSync } from 'node:fs'

const ticksPerSecond = 100

/** Milliseconds of processor time that a process and its children have taken, those that have ended too (Linux). */
export function cpuOf(pid: number): number {
  const children = new Map<number, number[]>()
  const ticks = new Map<number, number>()
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    const fields = statOf(name)
    if (!fields) continue
    // proc(5): the parent, then utime, stime, cutime and cstime.
    const [parent, times] = [Number(fields[1]), fields.slice(11, 15).map(Number)]
    children.set(parent, [...(children.get(parent) ?? []), Number(name)])
    ticks.set(
      Number(name),
      times.reduce((sum, time) => sum + time, 0),
    )
  }
  const sum = (each: number): number =>
    (ticks.get(each) ?? 0) + (children.get(each) ?? []).reduce((all, child) => all + sum(child), 0)
  return (sum(pid) * 1000) / ticksPerSecond
}

/** The process that a process belongs to. */
export function parentOf(pid: number): number {
  return Number(statOf(String(pid))?.[1])
}

/** What follows the name of the program, which may hold anything. */
function statOf(pid: string): string[] | undefined {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ')
  } catch {
    return undefined
  }
}

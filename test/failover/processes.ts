import { type ChildProcess, spawn } from 'node:child_process'
import { openSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'

/** Everything of the trial is below this folder, which is in memory and goes with it. */
export const root = '/run/trial'

/** Starts a program whose output goes into a file of its name. */
export function start(name: string, command: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  const log = openSync(`${root}/logs/${name}`, 'a')
  const [program = '', ...args] = command
  const child = spawn(program, args, { env: { PATH: process.env['PATH'], ...env }, stdio: ['ignore', log, log] })
  child.on('error', (error) => process.stdout.write(`${name}: ${error.message}\n`))
  return child
}

/** Looks until there is something to see; throws after `seconds`. */
export async function until<T>(what: string, seconds: number, look: () => Promise<T> | T): Promise<NonNullable<T>> {
  const end = performance.now() + seconds * 1000
  for (;;) {
    const seen = await look()
    if (seen) return seen
    if (performance.now() > end) throw new Error(`not within ${seconds} s: ${what}`)
    await setTimeout(100)
  }
}

/** Sends JSON or asks; resolves to the body, or to nothing when no usable answer comes within a second or so. */
export async function ask<T>(url: string, body?: object, method = body ? 'POST' : 'GET'): Promise<T | undefined> {
  try {
    const signal = AbortSignal.timeout(1500)
    const reply = await fetch(url, { method, signal, ...(body ? { body: JSON.stringify(body) } : {}) })
    return reply.ok ? ((await reply.json()) as T) : undefined
  } catch {
    return undefined
  }
}

import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism, setPriority } from 'node:os'
import { hash as argon2Hash, verify as argon2Verify } from '@node-rs/argon2'
import { verify as bcryptVerify } from '@node-rs/bcrypt'
import { dictionary } from '@zxcvbn-ts/language-common'
import { invalidField } from '#src/problem.ts'
import { Gate } from './gate.ts'

/** Logins that may wait for the gate: about two seconds of work on two cores. */
const gateLength = 256

/** The list leaves out what its own package finds by rule; `isRepetitive` and these few make up for it. */
const commonPasswords: ReadonlySet<string> = new Set([
  ...dictionary['passwords-common'].filter((password) => password.length >= 8),
  'poiuytrewq',
  'poiuytre',
  'lkjhgfdsa',
  'lkjhgfds',
  '09876543',
  '01012009',
])

export interface PasswordCost {
  readonly memoryCost: number
  readonly timeCost: number
  /** Of libuv's pool, which computes the hashes. */
  readonly threads: number
}

export interface PasswordMeasures {
  readonly passwordHashed: (seconds: number) => void
  readonly gateWaited: (seconds: number) => void
  readonly gateRefused: () => void
  /** A stored hash cannot be used: its row is damaged, or its parameters are out of bounds. */
  readonly hashUnusable?: () => void
}

export interface Passwords {
  readonly gate: Gate
  /** Makes the decoy and lets the hashing threads give way, before the first password is checked. */
  readonly prepare: () => Promise<void>
  /** Hashes with argon2id and the current parameters; throws `Problem` `unavailable` when too many wait. */
  readonly hash: (password: string) => Promise<string>
  /** Checks a password; without a stored hash it does the same work on a decoy and answers `false`. */
  readonly matches: (stored: string | null, password: string) => Promise<boolean>
  /** Whether the stored hash is of another algorithm or of weaker parameters than the current ones. */
  readonly isOutdated: (stored: string) => boolean
}

/** Makes the password functions: argon2id behind a gate as wide as the cores, and a decoy hash. */
export function makePasswords({ threads, ...cost }: PasswordCost, measures: PasswordMeasures): Passwords {
  // One thread is left for DNS and files, or a queue of logins delays every reconnect.
  const gate = new Gate(Math.max(1, Math.min(availableParallelism(), threads - 1)), gateLength, measures.gateRefused)
  // The library's default algorithm is argon2id.
  const options = { ...cost, parallelism: 1 }

  const gated = async <T>(task: () => Promise<T>): Promise<T> => {
    const queued = performance.now()
    return gate.run(async () => {
      const started = performance.now()
      measures.gateWaited((started - queued) / 1000)
      try {
        return await task()
      } finally {
        measures.passwordHashed((performance.now() - started) / 1000)
      }
    })
  }

  let decoy: Promise<string> | undefined
  const madeDecoy = () => (decoy ??= argon2Hash('a password that nobody has', options))
  return {
    gate,
    prepare: async () => {
      await madeDecoy()
      lowerHashingPriority()
    },
    hash: (password) => gated(() => argon2Hash(password, options)),
    matches: async (stored, password) => {
      const usable = stored !== null && isBounded(stored)
      if (stored !== null && !usable) measures.hashUnusable?.()
      const hash = usable ? stored : await madeDecoy()
      const matched = await gated(() => verify(hash, password))
      return usable && matched
    },
    isOutdated: (stored) => {
      const phc = parseArgon2(stored)
      return phc === undefined || phc.variant !== 'id' || phc.memory < cost.memoryCost || phc.time < cost.timeCost
    },
  }
}

/**
 * Lets the threads that hash give way to the one that answers requests, as far as the system can tell them apart: a queue
 * of logins then hardly delays the others.
 */
function lowerHashingPriority(): void {
  try {
    for (const thread of readdirSync('/proc/self/task'))
      if (readFileSync(`/proc/self/task/${thread}/comm`, 'utf8').startsWith('libuv-worker'))
        setPriority(Number(thread), 10)
  } catch {
    // Not Linux, or not allowed: it works, with longer waits.
  }
}

async function verify(stored: string, password: string): Promise<boolean> {
  try {
    return await (stored.startsWith('$argon2') ? argon2Verify(stored, password) : bcryptVerify(password, stored))
  } catch {
    return false
  }
}

const argon2Shape = /^\$argon2(id|i|d)\$v=\d{2}\$m=(\d{1,9}),t=(\d{1,9}),p=(\d{1,9})\$[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+$/
const bcryptShape = /^\$2[aby]\$(\d{2})\$[./A-Za-z0-9]{53}$/

function parseArgon2(stored: string) {
  const [, variant, memory, time, parallelism] = argon2Shape.exec(stored) ?? []
  if (variant === undefined) return undefined
  return { variant, memory: Number(memory), time: Number(time), parallelism: Number(parallelism) }
}

/** Whether a stored hash is well-formed and checking it costs a bounded amount: 256 MiB, 16 passes, bcrypt cost 15. */
export function isBounded(stored: string): boolean {
  const phc = parseArgon2(stored)
  if (phc) return phc.memory <= 262_144 && phc.time <= 16 && phc.parallelism <= 16
  const [, cost] = bcryptShape.exec(stored) ?? []
  return cost !== undefined && Number(cost) >= 4 && Number(cost) <= 15
}

/**
 * Refuses a new password that is too short, too long, common, or the user's own name or address, with a `Problem` that
 * names the field at `pointer`. Compared exactly: no trimming, folding or composition rules (ASVS 5.0, 6.2).
 */
export function requireSuitablePassword(password: string, names: readonly (string | null)[], pointer: string): void {
  const { length } = Array.from(password)
  if (length < 8) throw invalidField(pointer, 'must have at least 8 characters', 'password_unsuitable')
  if (length > 128) throw invalidField(pointer, 'must have at most 128 characters', 'password_unsuitable')
  const lower = password.toLowerCase()
  if (commonPasswords.has(lower) || commonPasswords.has(password) || isRepetitive(lower))
    throw invalidField(pointer, 'is too common', 'password_unsuitable')
  if (names.some((name) => name !== null && resembles(lower, name.toLowerCase())))
    throw invalidField(pointer, 'must not be your own name or address', 'password_unsuitable')
}

/** Up to six characters repeated, or a run of neighbours, such as `abcdefgh` or `98765432`. */
function isRepetitive(text: string): boolean {
  if (/^(.{1,6})\1+.{0,5}$/su.test(text)) return true
  const codes = Array.from(text, (character) => character.codePointAt(0) ?? 0)
  const steps = new Set(codes.slice(1).map((code, i) => code - (codes[i] ?? 0)))
  return steps.size === 1 || /^0?(123456789|987654321)0?$/.test(text)
}

function resembles(password: string, name: string): boolean {
  const bare = password.replace(/[^\p{L}]+$/u, '')
  return [name, name.split('@')[0] ?? '', name.replaceAll(/\s+/g, '')].some(
    (form) => form.length >= 3 && (password === form || bare === form),
  )
}

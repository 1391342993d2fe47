import { createHash } from 'node:crypto'
import { networkOf } from '#src/address.ts'
import { Problem } from '#src/problem.ts'
import { parseRefreshToken } from '#src/features/tokens/tokens.ts'

/** How often something may happen. */
export interface Limit {
  /** Public: metrics and the answers of 429 show it. */
  readonly name: string
  readonly max: number
  /** Seconds. */
  readonly per: number
}

/** Counts what happens under one limit, apart for each key. */
export interface Counter {
  readonly count: (key: string) => Promise<Counted>
  /** Whether one more would be too many; counts nothing. */
  readonly isFull: (key: string) => Promise<Standing>
}

interface Standing {
  readonly exceeded: boolean
  /** The 429 of this limit; making it counts as a refusal. */
  readonly refusal: () => Problem
}

export interface Counted extends Standing {
  readonly giveBack: () => Promise<void>
}

/** The limits on what only a use case knows; each throws `too_many_requests`. */
export interface Limits {
  /** Runs a login; only a wrong password stays counted as a guess, at the account under all of its names. */
  readonly login: <T>(target: LoginTarget, attempt: () => Promise<T>) => Promise<T>
  /** Runs a confirmation by password; only a wrong one stays counted, at the account. */
  readonly confirmation: <T>(userId: number, attempt: () => Promise<T>) => Promise<T>
  /** Runs a refresh; only a token whose digest matched is counted, at its session. */
  readonly refresh: <T>(refreshToken: string, attempt: () => Promise<T>) => Promise<T>
}

export interface LoginTarget {
  /** `undefined`: nobody has the name. */
  readonly userId: number | undefined
  readonly name: string
  readonly address: string | null
}

const minute = 60
const hour = 3600

/** Makes the limits of the use cases. */
export function makeLimits(counterOf: (limit: Limit) => Counter): Limits {
  const fromAddress = counterOf({ name: 'login-account-address', max: 10, per: 5 * minute })
  const fromEverywhere = counterOf({ name: 'login-account', max: 100, per: hour })
  // While an account is under attack from everywhere each address has two tries left: enough for its owner.
  const attackedAccount = counterOf({ name: 'login-besieged', max: 2, per: 5 * minute })
  const confirmations = counterOf({ name: 'password', max: 10, per: 5 * minute })
  const refreshes = counterOf({ name: 'refresh-session', max: 60, per: minute })

  return {
    login: async (target, attempt) => {
      const account = accountKey(target)
      const pair = `${networkOf(target.address ?? '')} ${account}`
      const counted = [required(await fromAddress.count(pair)), await fromEverywhere.count(account)]
      if (counted[1]?.exceeded) counted.push(required(await attackedAccount.count(pair)))
      return unlessWrong(counted, attempt)
    },
    confirmation: async (userId, attempt) =>
      unlessWrong([required(await confirmations.count(String(userId)))], attempt),
    refresh: async (refreshToken, attempt) => {
      const session = parseRefreshToken(refreshToken)?.sessionId
      if (session === undefined) return attempt()
      required(await refreshes.isFull(session))
      return andCount(() => refreshes.count(session), attempt)
    },
  }
}

/** A counter that lets everything pass. */
export function uncounted(): Counter {
  const standing = { exceeded: false, refusal: () => new Problem('too_many_requests'), giveBack: async () => {} }
  return { count: async () => standing, isFull: async () => standing }
}

function required<S extends Standing>(standing: S): S {
  if (standing.exceeded) throw standing.refusal()
  return standing
}

/** A digest of the name, because names are of any length and belong in no store. */
function accountKey({ userId, name }: LoginTarget): string {
  if (userId !== undefined) return `user ${userId}`
  return `name ${createHash('sha256').update(name.toLowerCase()).digest('base64url')}`
}

/** Guesses are counted before they are checked, so that parallel ones cannot slip through, and given back unless wrong. */
async function unlessWrong<T>(counted: readonly Counted[], attempt: () => Promise<T>): Promise<T> {
  const giveBack = () => Promise.all(counted.map((each) => each.giveBack()))
  try {
    const result = await attempt()
    await giveBack()
    return result
  } catch (error) {
    if (!isWrongPassword(error)) await giveBack()
    throw error
  }
}

function isWrongPassword(error: unknown): boolean {
  return error instanceof Problem && (error.code === 'credentials_invalid' || error.code === 'password_incorrect')
}

/** Counts what was decided about a token that exists; a fault, or a secret that is nobody's, tells nothing of a session. */
async function andCount<T>(count: () => Promise<unknown>, attempt: () => Promise<T>): Promise<T> {
  try {
    const result = await attempt()
    await count()
    return result
  } catch (error) {
    if (error instanceof Problem && error.status === 401 && error.code !== 'refresh_token_invalid') await count()
    throw error
  }
}

import type { Core } from '#src/features/core.ts'
import type { Credentials } from '#src/features/accounts/accounts.sql.ts'
import { record } from '#src/features/audit/audit.ts'
import type { Origin } from '#src/features/audit/audit.sql.ts'
import type { LoginTarget } from '#src/features/limits.ts'
import { newLink } from '#src/features/recovery/one-time-tokens.ts'
import { resendVerification } from '#src/features/recovery/one-time-tokens.sql.ts'
import { openSession, type TokenPair } from '#src/features/sessions/open.ts'
import { Problem } from '#src/problem.ts'

/** How somebody was known: of RFC 8176 §2 what a method may claim. */
type AuthenticationMethod = 'hwk' | 'kba' | 'mfa' | 'otp' | 'pop' | 'pwd' | 'sms' | 'swk' | 'user'

/** Who somebody has proven to be. */
export interface Proof {
  readonly user: Credentials
  readonly amr: readonly AuthenticationMethod[]
}

/** One try of a method: whom it is about, so that guesses can be counted, and the proof itself. */
export interface Attempt {
  readonly target: LoginTarget
  /** Throws what `refusedLogin` returns when it proves nothing. */
  readonly prove: () => Promise<Proof>
}

/**
 * Opens a session for whom a method proves; the one way to log in. Throws `credentials_invalid`, `email_not_verified`,
 * `too_many_requests` or `unavailable`.
 */
export async function logInBy(core: Core, begin: () => Promise<Attempt>, origin: Origin): Promise<TokenPair> {
  try {
    const first = await attemptLogin(core, await begin(), origin)
    // All sessions of the user were ended after the proof was read, perhaps by a change of the password.
    const pair = first ?? (await attemptLogin(core, await begin(), origin))
    if (!pair) throw new Problem('unavailable', { cause: 'login: raced', headers: { 'retry-after': '1' } })
    core.counters.login('succeeded')
    return pair
  } catch (error) {
    if (error instanceof Problem && error.status === 503) core.counters.login('unavailable')
    throw error
  }
}

/** Counts and records a login that proved nothing; returns the `credentials_invalid` to throw. */
export async function refusedLogin(
  core: Core,
  outcome: 'failed' | 'disabled',
  user: Credentials | undefined,
  origin: Origin,
): Promise<Problem> {
  core.counters.login(outcome)
  await record(core, `login.${outcome}`, { userId: user?.id ?? null }, origin)
  return new Problem('credentials_invalid')
}

function attemptLogin(core: Core, { target, prove }: Attempt, origin: Origin): Promise<TokenPair | undefined> {
  return core.limits.login(target, async () => {
    const proof = await prove()
    await admit(core, proof, origin)
    return openSession(core, proof, origin)
  })
}

/** Whether somebody who is known may log in; throws if not. */
async function admit(core: Core, { user }: Proof, origin: Origin): Promise<void> {
  if (!user.isActive) throw await refusedLogin(core, 'disabled', user, origin)
  if (!core.mail.requireVerifiedEmail || user.email === null || user.emailVerifiedAt !== null) return
  core.counters.login('unverified')
  // The link is sent again when the last one is a minute old.
  await core.db.rows(resendVerification, { ...origin, userId: user.id, ...newLink(core, 'email_verify') })
  core.mail.wakeMailer()
  throw new Problem('email_not_verified')
}

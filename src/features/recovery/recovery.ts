import { setTimeout } from 'node:timers/promises'
import type { Origin } from '#src/features/audit/audit.sql.ts'
import type { EventType } from '#src/features/audit/event-types.ts'
import { violates } from '#src/db/faults.ts'
import {
  confirmEmail,
  requestEmailChange,
  requestReset,
  requestVerification,
  resetOwner,
  resetPasswordByLink,
} from './one-time-tokens.sql.ts'
import type { Account } from '#src/features/accounts/accounts.sql.ts'
import { Problem } from '#src/problem.ts'
import { confirmPassword } from '#src/features/accounts/accounts.ts'
import { record } from '#src/features/audit/audit.ts'
import type { Core } from '#src/features/core.ts'
import { newLink, oneTimeDigestOf } from './one-time-tokens.ts'
import { requireSuitablePassword } from '#src/features/login/passwords.ts'

/** Answers come at multiples of this, so that their time tells nothing of the database's work. */
const stepMs = 150

/**
 * Queues a link to set a new password, if an active user has the address and was not sent enough mails already. The same
 * statement in every case, and the same time.
 */
export async function requestPasswordReset(core: Core, email: string, origin: Origin): Promise<void> {
  await inSteps(() => core.db.rows(requestReset, { ...origin, email, ...newLink(core, 'password_reset') }))
  core.mail.wakeMailer()
}

export interface PasswordReset {
  readonly token: string
  readonly newPassword: string
}

/**
 * Sets the password of the user that a link went to and ends every session; throws `one_time_token_invalid` or
 * `password_unsuitable`, which leaves the link as it is.
 */
export async function resetPassword(core: Core, { token, newPassword }: PasswordReset, origin: Origin): Promise<void> {
  const digest = oneTimeDigestOf(token)
  const owner = digest && (await core.db.row(resetOwner, { digest }))
  if (!digest || !owner) throw await refusedLink(core, 'password.reset_failed', origin)
  requireSuitablePassword(newPassword, [owner.email, owner.username, owner.fullName], '/new_password')
  const newHash = await core.passwords.hash(newPassword)
  const result = await core.db.row(resetPasswordByLink, { ...origin, digest, newHash, keepSessionId: null })
  if (!result) throw await refusedLink(core, 'password.reset_failed', origin)
  core.counters.sessionsRevoked('password_reset', result.ended)
  core.mail.wakeMailer()
}

/** Queues another link to confirm the user's address, unless it is confirmed or the last link is younger than a minute. */
export async function requestAddressConfirmation(core: Core, userId: number, origin: Origin): Promise<void> {
  await inSteps(() => core.db.rows(requestVerification, { ...origin, userId, ...newLink(core, 'email_verify') }))
  core.mail.wakeMailer()
}

/** Confirms the address that a link went to, and makes it the user's if it is a new one; throws `one_time_token_invalid`. */
export async function verifyEmail(core: Core, token: string, origin: Origin): Promise<void> {
  const digest = oneTimeDigestOf(token)
  const confirmed = digest && (await unlessOwned(core.db.row(confirmEmail, { ...origin, digest })))
  if (!confirmed) throw await refusedLink(core, 'email.verification_failed', origin)
  core.mail.wakeMailer()
}

/**
 * Queues a link to a new address, which becomes the user's when the link is used. An address that somebody else has is
 * answered alike. Throws `password_incorrect`.
 */
export async function changeEmail(
  core: Core,
  account: Account,
  { email, password }: { email: string; password: string },
  origin: Origin,
): Promise<void> {
  await confirmPassword(core, account.id, password, '/password', origin)
  await inSteps(() =>
    core.db.rows(requestEmailChange, { ...origin, userId: account.id, email, ...newLink(core, 'email_change') }),
  )
  core.mail.wakeMailer()
}

async function inSteps(task: () => Promise<unknown>): Promise<void> {
  const started = performance.now()
  await task()
  const rest = stepMs - ((performance.now() - started) % stepMs)
  await setTimeout(rest)
}

async function refusedLink(core: Core, type: EventType, origin: Origin): Promise<Problem> {
  await record(core, type, { userId: null }, origin)
  return new Problem('one_time_token_invalid')
}

/** An address that somebody else has registered meanwhile cannot be confirmed. */
async function unlessOwned<T>(change: Promise<T>): Promise<T | undefined> {
  try {
    return await change
  } catch (error) {
    if (violates(error, 'users_email_key')) return undefined
    throw error
  }
}

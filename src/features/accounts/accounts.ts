import type { Origin } from '#src/features/audit/audit.sql.ts'
import { violates } from '#src/db/faults.ts'
import { changePassword } from '#src/features/sessions/sessions.sql.ts'
import { type Account, createUser, type Credentials, deleteUser, updateProfile, userById } from './accounts.sql.ts'
import { Problem } from '#src/problem.ts'
import { record, refusedLastAdmin } from '#src/features/audit/audit.ts'
import type { Core } from '#src/features/core.ts'
import { newLink } from '#src/features/recovery/one-time-tokens.ts'
import { requireSuitablePassword } from '#src/features/login/passwords.ts'

export interface Registration {
  readonly email: string | null
  readonly username: string | null
  readonly fullName: string | null
  readonly password: string
  /** Given by an operator; a person who registers gets the role `user`. */
  readonly roles?: string[]
  /** True where somebody vouches for the address; then no link is sent to it. */
  readonly emailIsConfirmed?: boolean
}

/** Creates an account; throws `Problem` `email_taken`, `username_taken` or `password_unsuitable`. */
export async function register(core: Core, registration: Registration, origin: Origin): Promise<Account> {
  const { email, username, fullName, password, roles, emailIsConfirmed = false } = registration
  requireSuitablePassword(password, [email, username, fullName], '/password')
  const passwordHash = await core.passwords.hash(password)
  const account = await unlessTaken(
    core.db.row(createUser, {
      ...origin,
      email,
      username,
      fullName,
      passwordHash,
      roles: roles ?? ['user'],
      byOperator: roles !== undefined,
      emailIsConfirmed,
      ...newLink(core, 'email_verify'),
    }),
  )
  if (!account) throw new Error('the new account was not returned')
  core.mail.wakeMailer()
  return account
}

export interface ProfileChange {
  readonly fullName?: string | null | undefined
  readonly username?: string | undefined
}

/** Changes the fields that are given; throws `Problem` `username_taken`. */
export async function changeProfile(core: Core, id: number, change: ProfileChange, origin: Origin): Promise<Account> {
  const account = await unlessTaken(
    core.db.row(updateProfile, {
      ...origin,
      id,
      setFullName: change.fullName !== undefined,
      fullName: change.fullName ?? null,
      setUsername: change.username !== undefined,
      username: change.username ?? null,
    }),
  )
  return account ?? gone()
}

export interface PasswordChange {
  readonly currentPassword: string
  readonly newPassword: string
}

/** Sets a new password and ends the user's other sessions; throws `password_incorrect` or `password_unsuitable`. */
export async function replacePassword(
  core: Core,
  { account, sessionId }: { account: Account; sessionId: string },
  { currentPassword, newPassword }: PasswordChange,
  origin: Origin,
): Promise<void> {
  requireSuitablePassword(newPassword, [account.email, account.username, account.fullName], '/new_password')
  const { passwordHash } = await confirmPassword(core, account.id, currentPassword, '/current_password', origin)
  const result = await core.db.row(changePassword, {
    ...origin,
    userId: account.id,
    actorId: account.id,
    keepSessionId: sessionId,
    passwordHash,
    newHash: await core.passwords.hash(newPassword),
  })
  if (!result?.changed) throw incorrect('/current_password')
  core.counters.sessionsRevoked('password_change', result.ended)
  core.mail.wakeMailer()
}

/** Deletes the account and everything of it; throws `password_incorrect` or `last_admin`. */
export async function deleteAccount(core: Core, account: Account, password: string, origin: Origin): Promise<void> {
  await confirmPassword(core, account.id, password, '/password', origin)
  const result = await core.db.row(deleteUser, { ...origin, id: account.id, actorId: account.id })
  if (result?.isLastAdmin) throw await refusedLastAdmin(core, account.id, { ...origin, actorId: account.id })
}

/** Checks the password of somebody who is logged in; throws `password_incorrect` that names the field at `pointer`, or `too_many_requests`. */
export async function confirmPassword(core: Core, id: number, password: string, pointer: string, origin: Origin) {
  const credentials = (await core.db.row(userById, { id })) ?? gone()
  const { passwordHash } = credentials
  return core.limits.confirmation(id, async () => {
    if (!(await core.passwords.matches(passwordHash, password)) || passwordHash === null) {
      await record(core, 'password.incorrect', { userId: id, actorId: id }, origin)
      throw incorrect(pointer)
    }
    return { ...credentials, passwordHash } satisfies Credentials
  })
}

function incorrect(pointer: string): Problem {
  return new Problem('password_incorrect', { errors: [{ pointer, detail: 'is incorrect' }] })
}

function gone(): never {
  throw new Problem('session_revoked', { cause: 'the account was deleted meanwhile' })
}

/** Awaits a change; a duplicate becomes the `Problem` `email_taken` or `username_taken`. */
export async function unlessTaken<T>(change: Promise<T>): Promise<T> {
  try {
    return await change
  } catch (error) {
    if (violates(error, 'users_email_key')) throw taken('email_taken', '/email')
    if (violates(error, 'users_username_key')) throw taken('username_taken', '/username')
    throw error
  }
}

function taken(code: 'email_taken' | 'username_taken', pointer: string): Problem {
  return new Problem(code, { errors: [{ pointer, detail: 'is already registered' }] })
}

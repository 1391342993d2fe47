import {
  accountById,
  changeUser as changeUserStatement,
  confirmEmailOf,
  type EventRow,
  eventsOfUser,
  type FoundUser,
  setPasswordOf,
  usersWhere,
} from './administration.sql.ts'
import type { Origin } from '#src/features/audit/audit.sql.ts'
import { endSessions } from '#src/features/sessions/sessions.sql.ts'
import { type Account, deleteUser } from './accounts.sql.ts'
import { Problem } from '#src/problem.ts'
import { unlessTaken } from './accounts.ts'
import { refusedLastAdmin } from '#src/features/audit/audit.ts'
import type { Core } from '#src/features/core.ts'
import { newLink } from '#src/features/recovery/one-time-tokens.ts'
import { requireSuitablePassword } from '#src/features/login/passwords.ts'

/** Who acts and from where; `actorId` is null for a command from the shell. */
export interface Actor extends Origin {
  readonly actorId: number | null
}

export interface UserSearch {
  /** Part of an e-mail address, username or full name, without regard to case. */
  readonly text?: string | undefined
  readonly role?: string | undefined
  readonly isActive?: boolean | undefined
  /** The id before the first one. */
  readonly after?: number
  readonly limit: number
}

export interface Page<Item, Key> {
  readonly items: Item[]
  /** Where the next page begins; undefined on the last one. */
  readonly next: Key | undefined
}

/** A page of users in the order of their ids; it may be short, even empty, before the last one. */
export async function listUsers(core: Core, search: UserSearch): Promise<Page<Account, number>> {
  const { text, role = null, isActive = null, after = 0, limit } = search
  const pattern = text === undefined ? null : `%${text.replaceAll(/[\\%_]/g, '\\$&')}%`
  const rows = await core.db.rows(usersWhere, { pattern, role, isActive, after, limit: limit + 1 })
  const found = rows.filter((row): row is Account & FoundUser => row.id !== null)
  const page = pageOf(found, limit, ({ id }) => id)
  return { items: page.items, next: page.next ?? rows[0]?.lastSeen ?? undefined }
}

/** A user by id; throws `not_found`. */
export async function findUser(core: Core, id: number): Promise<Account> {
  return (await core.db.row(accountById, { id })) ?? unknown()
}

export interface UserChange {
  readonly fullName?: string | null | undefined
  readonly username?: string | undefined
  readonly email?: string | undefined
  readonly roles?: string[] | undefined
  /** One role to add, whatever the others are. */
  readonly grant?: string | undefined
  /** One role to take away. */
  readonly revoke?: string | undefined
  readonly isActive?: boolean | undefined
}

/** Changes what is given; throws `not_found`, `email_taken`, `username_taken` or `last_admin`. */
export async function changeUser(core: Core, id: number, change: UserChange, actor: Actor): Promise<Account> {
  const { fullName, username = null, email = null, roles = null, isActive = null, grant = null, revoke = null } = change
  const row = await unlessTaken(
    core.db.row(changeUserStatement, {
      ...actor,
      id,
      setFullName: fullName !== undefined,
      fullName: fullName ?? null,
      username,
      email,
      roles,
      grant,
      revoke,
      isActive,
      endangersAdmin: isActive === false || revoke === 'admin' || roles?.includes('admin') === false,
      keepSessionId: null,
      ...newLink(core, 'email_verify'),
    }),
  )
  if (!row) return unknown()
  const { isLastAdmin, ended, ...account } = row
  if (isLastAdmin) throw await refusedLastAdmin(core, id, actor)
  core.counters.sessionsRevoked('disabled', ended)
  if (email !== null) core.mail.wakeMailer()
  return account
}

/** Deletes a user and everything of them; throws `not_found` or `last_admin`. */
export async function removeUser(core: Core, id: number, actor: Actor): Promise<void> {
  const result = await core.db.row(deleteUser, { ...actor, id })
  if (result?.isLastAdmin) throw await refusedLastAdmin(core, id, actor)
  if (!result?.deleted) unknown()
}

/** Marks the address of a user as confirmed; resolves to whether it was not before. */
export async function confirmAddress(core: Core, id: number, actor: Actor): Promise<boolean> {
  return (await core.db.row(confirmEmailOf, { ...actor, id })) !== undefined
}

/** Sets a password whatever the old one was, and ends every session; throws `password_unsuitable` or `not_found`. */
export async function setPassword(core: Core, account: Account, password: string, actor: Actor): Promise<void> {
  requireSuitablePassword(password, [account.email, account.username, account.fullName], '/password')
  const newHash = await core.passwords.hash(password)
  if (!(await core.db.row(setPasswordOf, { ...actor, id: account.id, newHash }))) unknown()
  core.mail.wakeMailer()
}

/** Ends every session of a user; resolves to how many there were, throws `not_found`. */
export async function logOutUser(core: Core, userId: number, actor: Actor): Promise<number> {
  await findUser(core, userId)
  const result = await core.db.row(endSessions, { ...actor, userId, keepSessionId: null, reason: 'admin' })
  const ended = result?.ended ?? 0
  core.counters.sessionsRevoked('admin', ended)
  return ended
}

/** Any id of an event is below. */
const endOfTime = '9223372036854775807'

/** A page of the audit trail of a user, newest first; throws `not_found` where neither the user nor a trace is left. */
export async function listEvents(core: Core, id: number, before?: string): Promise<Page<EventRow, string>> {
  const limit = 50
  const rows = await core.db.rows(eventsOfUser, { id, before: before ?? endOfTime, limit: limit + 1 })
  if (rows.length === 0 && before === undefined) await findUser(core, id)
  return pageOf(rows, limit, (event) => event.id)
}

function pageOf<Item, Key>(rows: Item[], limit: number, keyOf: (item: Item) => Key): Page<Item, Key> {
  const items = rows.slice(0, limit)
  const last = items.at(-1)
  return { items, next: rows.length > limit && last !== undefined ? keyOf(last) : undefined }
}

function unknown(): never {
  throw new Problem('not_found')
}

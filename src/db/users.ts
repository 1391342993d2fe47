import { type SQL, sql } from 'drizzle-orm'
import { type Origin, recorded } from './audit-events.ts'
import { columns, statement } from './client.ts'
import { linkData, linked, type LinkInput } from './links.ts'
import { queued } from './outbox.ts'
import { auditEvents, type User, users } from './schema.ts'

const input = sql.placeholder

/** What the rest of the code may know of a user; never the password's hash. */
export type Account = Pick<
  User,
  'id' | 'email' | 'username' | 'fullName' | 'roles' | 'isActive' | 'emailVerifiedAt' | 'createdAt'
>
const accountNames = ['id', 'email', 'username', 'fullName', 'roles', 'isActive', 'emailVerifiedAt', 'createdAt']

/** The select list of an `Account`. */
export const accountColumns = (alias: string) => columns(users, alias, accountNames)

const toConfirm = sql`created where created.email is not null and created.email_verified_at is null`

export type Credentials = Account & Pick<User, 'passwordHash'>

/**
 * Creates a user and queues the link that confirms the address, if there is one to confirm; fails on the unique index
 * `users_email_key` or `users_username_key` (SQLSTATE 23505).
 */
export const createUser = statement<
  Origin &
    LinkInput &
    Pick<User, 'email' | 'username' | 'fullName' | 'passwordHash' | 'roles'> & { emailIsConfirmed: boolean },
  Account
>(sql`
  with created as (
    insert into ${users} (email, username, full_name, password_hash, roles, email_verified_at)
    values (${input('email')}, ${input('username')}, ${input('fullName')}, ${input('passwordHash')}, ${input('roles')}::text[],
      case when ${input('emailIsConfirmed')}::boolean then now() end)
    returning *
  ), link as (
    ${linked({ purpose: 'email_verify', hours: 24, userId: sql`created.id`, email: sql`created.email`, from: toConfirm })}
  ), mail as (
    ${queued({ template: 'email-verify', userId: sql`created.id`, recipient: sql`created.email`, data: linkData('email_verify'), from: toConfirm })}
  ), audited as (
    ${recorded({ type: sql`'user.registered'`, userId: sql`created.id`, from: sql`created` })}
  )
  select ${accountColumns('created')} from created`)

const credentialColumns = sql`${accountColumns('u')}, u.password_hash as "passwordHash"`

/** Finds a user by e-mail address, without regard to case. */
export const userByEmail = statement<{ name: string }, Credentials>(
  sql`select ${credentialColumns} from ${users} u where lower(u.email collate "C") = lower(${input('name')}::text collate "C")`,
  true,
)

/** Finds a user by username, without regard to case. */
export const userByUsername = statement<{ name: string }, Credentials>(
  sql`select ${credentialColumns} from ${users} u where lower(u.username collate "C") = lower(${input('name')}::text collate "C")`,
  true,
)

/** Finds a user with the stored hash, for a check of the current password. */
export const userById = statement<{ id: number }, Credentials>(
  sql`select ${credentialColumns} from ${users} u where u.id = ${input('id')}`,
  true,
)

/** Replaces a hash of older parameters, unless the password has changed meanwhile. */
export const upgradePasswordHash = statement<{ id: number; passwordHash: string; newHash: string }, { id: number }>(sql`
  update ${users} set password_hash = ${input('newHash')}
  where id = ${input('id')} and password_hash = ${input('passwordHash')} returning id`)

/** Changes the fields whose `set…` flag is true. */
export const updateProfile = statement<
  Origin & { id: number; setFullName: boolean; fullName: string | null; setUsername: boolean; username: string | null },
  Account
>(sql`
  with changed as (
    update ${users} set
      full_name = case when ${input('setFullName')}::boolean then ${input('fullName')}::text else full_name end,
      username = case when ${input('setUsername')}::boolean then ${input('username')}::text else username end,
      updated_at = now()
    where id = ${input('id')} returning *
  ), audited as (
    ${recorded({ type: sql`'user.updated'`, userId: sql`changed.id`, from: sql`changed` })}
  )
  select ${accountColumns('changed')} from changed`)

/**
 * CTEs that lock the user `id` and, if `endangered` may cost an administrator, every active administrator in the order of
 * their ids. A lock that was waited for gives the newest version of its row, so `target.is_last_admin` is true to the
 * moment, whatever the snapshot of the statement says.
 */
export const lockedTarget = (endangered: SQL): SQL => sql`
  locked as (
    select * from ${users}
    where id = ${input('id')}::integer or (${endangered} and 'admin' = any(roles) and is_active)
    order by id for update
  ), target as (
    select l.*, ${endangered} and 'admin' = any(l.roles) and l.is_active
      and not exists (select from locked o where o.id <> l.id and 'admin' = any(o.roles) and o.is_active) as is_last_admin
    from locked l where l.id = ${input('id')}::integer
  )`

/** Deletes a user with every session, token and event of theirs, unless they are the last active administrator. */
export const deleteUser = statement<
  Origin & { id: number; actorId: number | null },
  { isLastAdmin: boolean; deleted: boolean }
>(sql`
  with ${lockedTarget(sql`true`)}, gone as (
    delete from ${users} u using target where u.id = target.id and not target.is_last_admin returning u.id
  ), forgotten as (
    delete from ${auditEvents} using gone where ${auditEvents}.user_id = gone.id
  ), audited as (
    ${recorded({ type: sql`'user.deleted'`, userId: sql`gone.id`, actorId: sql`${input('actorId')}::integer`, from: sql`gone` })}
  )
  select is_last_admin as "isLastAdmin", exists (select from gone) as deleted from target`)

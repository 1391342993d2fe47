import { type SQL, sql } from 'drizzle-orm/sql'
import { type Origin, insertEvent } from '#src/features/audit/audit.sql.ts'
import { columns, columnTypes, type Parameters, statement } from '#src/db/statement.ts'
import { type LinkInput, upsertLinkMail } from '#src/features/recovery/links.sql.ts'
import { oneTimeTokens, outbox, type User, users } from '#src/db/schema.ts'

/** What the rest of the code may know of a user; never the password's hash. */
export type Account = Pick<User, (typeof accountNames)[number]>
const accountNames = [
  'id',
  'email',
  'username',
  'fullName',
  'roles',
  'isActive',
  'emailVerifiedAt',
  'createdAt',
] as const satisfies (keyof User)[]

/** The select list of an `Account`. */
export const accountColumns = (alias: string) => columns(users, alias, accountNames)
/** Its types. */
export const accountTypes = columnTypes(users, accountNames)

export type Credentials = Account & Pick<User, 'passwordHash' | 'sessionEpoch'>

type NewUser = Pick<User, 'email' | 'username' | 'fullName' | 'passwordHash' | 'roles'> & {
  /** Made by a command and not by the person. */
  readonly byOperator: boolean
  readonly emailIsConfirmed: boolean
}

/** The detail of an event that gives or takes roles. */
export const rolesFromTo = (from: SQL, to: SQL): SQL =>
  sql`jsonb_build_object('roles', jsonb_build_object('from', to_jsonb(${from}), 'to', to_jsonb(${to})))`

/**
 * Creates a user and queues the link that confirms the address, if there is one to confirm; fails on the unique index
 * `users_email_key` or `users_username_key` (SQLSTATE 23505).
 */
export const createUser = statement<Origin & LinkInput & NewUser, Account>(
  ($) => sql`
  with created as (
    insert into ${users} (email, username, full_name, password_hash, roles, email_verified_at)
    values (${$.email}, ${$.username}, ${$.fullName}, ${$.passwordHash}, ${$.roles}::text[],
      case when ${$.emailIsConfirmed}::boolean then now() end)
    returning *
  ), ${upsertLinkMail($, 'email_verify', { userId: sql`created.id`, email: sql`created.email`, from: sql`(select * from created where email_verified_at is null) created` })}, audited as (
    ${insertEvent($, { type: 'user.registered', userId: sql`created.id`, actorId: sql`created.id`, from: sql`created where not ${$.byOperator}::boolean` })}
  ), audited_creation as (
    ${insertEvent($, { type: 'user.created', userId: sql`created.id`, detail: rolesFromTo(sql`'{}'::text[]`, sql`created.roles`), from: sql`created where ${$.byOperator}::boolean` })}
  )
  select ${accountColumns('created')} from created`,
  accountTypes,
)

const credentialColumns = sql`${accountColumns('u')}, u.password_hash as "passwordHash", u.session_epoch as "sessionEpoch"`
const credentialTypes = { ...accountTypes, passwordHash: 'text', sessionEpoch: 'int4' } as const

/** Finds a user by e-mail address, without regard to case. */
export const userByEmail = statement<{ name: string }, Credentials>(
  ($) =>
    sql`select ${credentialColumns} from ${users} u where lower(u.email collate "C") = lower(${$.name}::text collate "C")`,
  credentialTypes,
  { repeatable: true },
)

/** Finds a user by username, without regard to case. */
export const userByUsername = statement<{ name: string }, Credentials>(
  ($) =>
    sql`select ${credentialColumns} from ${users} u where lower(u.username collate "C") = lower(${$.name}::text collate "C")`,
  credentialTypes,
  { repeatable: true },
)

/** Finds a user with the stored hash, for a check of the current password. */
export const userById = statement<{ id: number }, Credentials>(
  ($) => sql`select ${credentialColumns} from ${users} u where u.id = ${$.id} and u.deleted_at is null`,
  credentialTypes,
  { repeatable: true },
)

/** Replaces a hash of older parameters, unless the password has changed meanwhile. */
export const upgradePasswordHash = statement<{ id: number; passwordHash: string; newHash: string }, { id: number }>(
  ($) => sql`
  update ${users} set password_hash = ${$.newHash}
  where id = ${$.id} and password_hash = ${$.passwordHash} returning id`,
  { id: 'int4' },
)

/** Changes the fields whose `set…` flag is true; an event tells which really changed. */
export const updateProfile = statement<
  Origin & { id: number; setFullName: boolean; fullName: string | null; setUsername: boolean; username: string | null },
  Account
>(
  ($) => sql`
  with target as (
    select * from ${users} where id = ${$.id} and deleted_at is null for no key update
  ), wanted as (
    select id,
      case when ${$.setFullName}::boolean then ${$.fullName}::text else full_name end as full_name,
      case when ${$.setUsername}::boolean then ${$.username}::text else username end as username
    from target
  ), difference as (
    select w.*, array_remove(array[
      case when w.full_name is distinct from t.full_name then 'full_name' end,
      case when w.username is distinct from t.username then 'username' end
    ], null) as fields
    from wanted w join target t on t.id = w.id
  ), changed as (
    update ${users} u set full_name = d.full_name, username = d.username, updated_at = now()
    from difference d where u.id = d.id and cardinality(d.fields) > 0 returning u.*, d.fields
  ), audited as (
    ${insertEvent($, { type: 'user.updated', userId: sql`changed.id`, actorId: sql`changed.id`, detail: sql`jsonb_build_object('fields', changed.fields)`, from: sql`changed` })}
  )
  select ${accountColumns('c')} from changed c
  union all
  select ${accountColumns('t')} from target t where not exists (select from changed)`,
  accountTypes,
)

/**
 * CTEs that lock the user `id` and, if `endangered` may cost an administrator, every active administrator in the order of
 * their ids. A lock that was waited for gives the newest version of its row, so `target.is_last_admin` is true to the
 * moment, whatever the snapshot of the statement says.
 */
export const lockedTarget = ($: Parameters<{ id: number }>, endangered: SQL): SQL => sql`
  locked as (
    select * from ${users}
    where id = ${$.id}::integer and deleted_at is null or (${endangered} and 'admin' = any(roles) and is_active)
    order by id for update
  ), target as (
    select l.*, ${endangered} and 'admin' = any(l.roles) and l.is_active
      and not exists (select from locked o where o.id <> l.id and 'admin' = any(o.roles) and o.is_active) as is_last_admin
    from locked l where l.id = ${$.id}::integer
  )`

/**
 * Deletes a user unless they are the last active administrator: frees the names, ends every session, takes links and
 * waiting mail away. The sweep removes what is left of them, and then the row.
 */
export const deleteUser = statement<
  Origin & { id: number; actorId: number | null },
  { isLastAdmin: boolean; deleted: boolean }
>(
  ($) => sql`
  with ${lockedTarget($, sql`true`)}, gone as (
    update ${users} u set email = null, username = null, full_name = null, password_hash = null, email_verified_at = null,
      roles = '{}', is_active = false, session_epoch = u.session_epoch + 1, sessions_ended_at = null,
      deleted_at = clock_timestamp(), updated_at = now()
    from target where u.id = target.id and not target.is_last_admin returning u.id
  ), links as (
    delete from ${oneTimeTokens} t using gone where t.user_id = gone.id
  ), mails as (
    delete from ${outbox} m using gone where m.user_id = gone.id and m.sent_at is null and m.dead_at is null
  ), audited as (
    ${insertEvent($, { type: 'user.deleted', userId: sql`gone.id`, actorId: sql`${$.actorId}::integer`, from: sql`gone` })}
  )
  select is_last_admin as "isLastAdmin", exists (select from gone) as deleted from target`,
  { isLastAdmin: 'bool', deleted: 'bool' },
)

/** How many of the 10,000 users behind `after` are not deleted, in the order of their ids. */
export const userCount = statement<{ after: number }, { count: number; seen: number; last: number | null }>(
  ($) => sql`
  select count(*) filter (where deleted_at is null)::integer as count, count(*)::integer as seen, max(id) as last
  from (select id, deleted_at from ${users} where id > ${$.after}::integer order by id limit 10000) part`,
  { count: 'int4', seen: 'int4', last: 'int4' },
  { repeatable: true },
)

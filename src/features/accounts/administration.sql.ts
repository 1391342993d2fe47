import { sql } from 'drizzle-orm/sql'
import { type Origin, insertEvent } from '#src/features/audit/audit.sql.ts'
import { statement } from '#src/db/statement.ts'
import { type LinkInput, upsertLinkMail } from '#src/features/recovery/links.sql.ts'
import { insertNotice } from '#src/features/mail/outbox.sql.ts'
import { type AuditEvent, auditEvents, oneTimeTokens, users } from '#src/db/schema.ts'
import { endSessionsExcept, raiseEpoch } from '#src/features/sessions/sessions.sql.ts'
import { type Account, accountColumns, accountTypes, lockedTarget, rolesFromTo } from './accounts.sql.ts'

export interface UserFilter {
  /** A LIKE pattern; the database knows best what its locale takes for the same letter. */
  readonly pattern: string | null
  readonly role: string | null
  readonly isActive: boolean | null
  /** The id before the first one. */
  readonly after: number
  readonly limit: number
}

/** Users that one search looks at, so that its time does not grow with their number. */
const searchWindow = 100_000

export type FoundUser = Nullable<Account> & { readonly lastSeen: number | null }
type Nullable<T> = { [K in keyof T]: T[K] | null }

/**
 * Users in the order of their ids, found among the next `searchWindow`; `lastSeen` is where to go on, null when all were
 * looked at. One row of nulls when there are none.
 */
export const usersWhere = statement<UserFilter, FoundUser>(
  ($) => sql`
  select edge.id as "lastSeen", ${accountColumns('u')}
  from (values (1)) one left join (
    select id from ${users} where id > ${$.after}::integer
    order by id offset ${sql.raw(String(searchWindow - 1))} limit 1
  ) edge on true left join lateral (
    select * from ${users} u
    where u.id > ${$.after}::integer and (edge.id is null or u.id <= edge.id) and u.deleted_at is null
      and (${$.isActive}::boolean is null or u.is_active = ${$.isActive}::boolean)
      and (${$.role}::text is null or ${$.role}::text = any(u.roles))
      and (${$.pattern}::text is null or lower(u.email) like lower(${$.pattern}::text)
        or lower(u.username) like lower(${$.pattern}::text)
        or lower(u.full_name) like lower(${$.pattern}::text))
    order by u.id limit ${$.limit}::integer
  ) u on true
  order by u.id`,
  { lastSeen: 'int4', ...accountTypes },
  { repeatable: true },
)

/** A user by id. */
export const accountById = statement<{ id: number }, Account>(
  ($) => sql`select ${accountColumns('u')} from ${users} u where u.id = ${$.id}::integer and u.deleted_at is null`,
  accountTypes,
  { repeatable: true },
)

export type EventRow = Omit<AuditEvent, 'id'> & { id: string }

/** Events of one user, newest first, with ids below `before`; of a deleted one only that they were deleted. */
export const eventsOfUser = statement<{ id: number; before: string; limit: number }, EventRow>(
  ($) => sql`
  select e.id::text as id, e.created_at as "createdAt", e.type, e.user_id as "userId", e.actor_id as "actorId",
    e.session_id as "sessionId", e.ip, e.user_agent as "userAgent", e.request_id as "requestId", e.detail
  from ${auditEvents} e
  where e.user_id = ${$.id}::integer and e.id < ${$.before}::bigint and (
    e.type = 'user.deleted' or not exists (select from ${users} u where u.id = e.user_id and u.deleted_at is not null)
  )
  order by e.id desc limit ${$.limit}::integer`,
  {
    id: 'text',
    createdAt: 'timestamptz',
    type: 'text',
    userId: 'int4',
    actorId: 'int4',
    sessionId: 'uuid',
    ip: 'text',
    userAgent: 'text',
    requestId: 'text',
    detail: 'jsonb',
  },
  { repeatable: true },
)

export interface UserChangeInput extends Origin {
  readonly id: number
  readonly actorId: number | null
  readonly setFullName: boolean
  readonly fullName: string | null
  readonly username: string | null
  readonly email: string | null
  readonly roles: string[] | null
  /** One role to add or to take away; both may be null. */
  readonly grant: string | null
  readonly revoke: string | null
  readonly isActive: boolean | null
  /** Whether the change could take an active administrator away. */
  readonly endangersAdmin: boolean
  readonly keepSessionId: null
}

export type UserChangeRow = Account & { readonly isLastAdmin: boolean; readonly ended: number }

/** Which fields changed, and the values of those that decide what a user may do. */
const changeDetail = sql`jsonb_build_object('fields', changed.fields)
      || case when 'roles' = any(changed.fields) then ${rolesFromTo(sql`changed.old_roles`, sql`changed.roles`)} else '{}' end
      || case when 'is_active' = any(changed.fields) then jsonb_build_object('is_active', changed.is_active) else '{}' end`

/**
 * Changes what is not null, unless that takes away the last active administrator; disabling ends every session. A new
 * address has to be confirmed anew by a link that goes to it, the old one is told, and links that went to it end. No row
 * if there is no such user.
 */
export const changeUser = statement<UserChangeInput & LinkInput, UserChangeRow>(
  ($) => sql`
  with ${lockedTarget($, sql`${$.endangersAdmin}::boolean`)}, wanted as (
    select id, is_last_admin, session_epoch,
      case when ${$.setFullName}::boolean then ${$.fullName}::text else full_name end as full_name,
      coalesce(${$.username}::text, username) as username,
      coalesce(${$.email}::text, email) as email,
      coalesce(${$.isActive}::boolean, is_active) as is_active,
      case
        when ${$.roles}::text[] is not null then ${$.roles}::text[]
        when ${$.grant}::text <> all(roles) then roles || ${$.grant}::text
        else array_remove(roles, ${$.revoke}::text)
      end as roles
    from target
  ), difference as (
    select w.*, t.roles as old_roles, t.email as old_email, lower(w.email collate "C") is distinct from lower(t.email collate "C") as is_moved,
      t.is_active and not w.is_active as is_disabled,
      case when t.is_active and not w.is_active then clock_timestamp() end as disabled_at,
      array_remove(array[
        case when w.full_name is distinct from t.full_name then 'full_name' end,
        case when w.username is distinct from t.username then 'username' end,
        case when w.email is distinct from t.email then 'email' end,
        case when w.roles <> t.roles then 'roles' end,
        case when w.is_active <> t.is_active then 'is_active' end
      ], null) as fields
    from wanted w join target t on t.id = w.id
  ), changed as (
    update ${users} u set full_name = d.full_name, username = d.username, email = d.email, roles = d.roles,
      is_active = d.is_active, updated_at = now(),
      session_epoch = case when d.is_disabled then d.session_epoch + 1 else d.session_epoch end,
      sessions_ended_at = coalesce(d.disabled_at, u.sessions_ended_at),
      email_verified_at = case when d.is_moved then null else u.email_verified_at end
    from difference d
    where u.id = d.id and not d.is_last_admin and cardinality(d.fields) > 0
    returning u.*, d.fields, d.is_disabled, d.is_moved, d.old_email, d.old_roles
  ), moved as (
    select * from changed where is_moved
  ), ${upsertLinkMail($, 'email_verify', { userId: sql`reachable.id`, email: sql`reachable.email`, from: sql`(select * from moved where is_active) reachable` })},
  unlinked as (
    delete from ${oneTimeTokens} o using moved
    where o.user_id = moved.id and (o.purpose <> 'email_verify' or not exists (select from link))
  ), ${insertNotice({ template: 'email-changed', userId: sql`moved.id`, recipient: sql`moved.old_email`, from: sql`moved` })},
  ${endSessionsExcept($, sql`(select id, session_epoch from changed where is_disabled)`)}, audited as (
    ${insertEvent($, { type: 'user.updated', userId: sql`changed.id`, actorId: sql`${$.actorId}::integer`, detail: changeDetail, from: sql`changed` })}
  ), now_is as (
    select ${accountColumns('c')} from changed c
    union all
    select ${accountColumns('t')} from target t where not exists (select from changed)
  )
  select now_is.*, target.is_last_admin as "isLastAdmin", (select count from ended) as ended
  from now_is join target on target.id = now_is.id`,
  { ...accountTypes, isLastAdmin: 'bool', ended: 'int4' },
)

type Act = Origin & { id: number; actorId: number | null }

/** Marks the address of a user as confirmed; no row if there is none, or nothing to change. */
export const confirmEmailOf = statement<Act, { id: number }>(
  ($) => sql`
  with confirmed as (
    update ${users} set email_verified_at = now(), updated_at = now()
    where id = ${$.id}::integer and email is not null and email_verified_at is null and deleted_at is null
    returning id
  ), audited as (
    ${insertEvent($, { type: 'email.verified', userId: sql`confirmed.id`, actorId: sql`${$.actorId}::integer`, from: sql`confirmed` })}
  )
  select id from confirmed`,
  { id: 'int4' },
)

/** Sets a password, ends every session by the epoch, and outstanding links; tells the user. */
export const setPasswordOf = statement<Act & { newHash: string }, { id: number }>(
  ($) => sql`
  with owner as (
    update ${users} set password_hash = ${$.newHash}, ${raiseEpoch}, updated_at = now()
    where id = ${$.id}::integer and deleted_at is null returning id, email
  ), links as (
    delete from ${oneTimeTokens} t using owner where t.user_id = owner.id and t.purpose in ('password_reset', 'email_change')
  ), ${insertNotice({ template: 'password-changed', userId: sql`owner.id`, recipient: sql`owner.email`, from: sql`owner` })}, audited as (
    ${insertEvent($, { type: 'password.reset', userId: sql`owner.id`, actorId: sql`${$.actorId}::integer`, from: sql`owner` })}
  )
  select id from owner`,
  { id: 'int4' },
)

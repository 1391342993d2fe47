import { sql } from 'drizzle-orm/sql'
import { type Origin, insertEvent } from '#src/features/audit/audit.sql.ts'
import { type Parameters, statement } from '#src/db/statement.ts'
import { type LinkInput, upsertLinkMail } from './links.sql.ts'
import { insertNotice } from '#src/features/mail/outbox.sql.ts'
import { oneTimeTokens, type User, users } from '#src/db/schema.ts'
import { endSessionsExcept, raiseEpoch } from '#src/features/sessions/sessions.sql.ts'

/** Queues a reset link if an active user has the address; writes one event in every case. */
export const requestReset = statement<Origin & LinkInput & { email: string }, never>(
  ($) => sql`
  with owner as (
    select id, email from ${users}
    where lower(email collate "C") = lower(${$.email}::text collate "C") and is_active
    for key share
  ), ${upsertLinkMail($, 'password_reset', { userId: sql`owner.id`, email: sql`owner.email`, from: sql`owner` })}
  ${insertEvent($, { type: 'password.reset_requested', userId: sql`(select id from owner)` })}`,
  {},
)

/** Whose names a new password must not be: the user of a reset link that works. */
export const resetOwner = statement<{ digest: Buffer }, Pick<User, 'email' | 'username' | 'fullName'>>(
  ($) => sql`
  select u.email, u.username, u.full_name as "fullName"
  from ${oneTimeTokens} t join ${users} u on u.id = t.user_id
  where t.digest = ${$.digest} and t.purpose = 'password_reset' and t.expires_at > now()
    and u.is_active and lower(u.email collate "C") = lower(t.email collate "C")`,
  { email: 'text', username: 'text', fullName: 'text' },
  { repeatable: true },
)

/**
 * Spends a reset link: sets the password, ends every session, confirms the address. Of any number that try at once one
 * deletes the row; the others wait for it and find it gone.
 */
export const resetPasswordByLink = statement<
  Origin & { digest: Buffer; newHash: string; keepSessionId: null },
  { userId: number; ended: number }
>(
  ($) => sql`
  with spent as (
    delete from ${oneTimeTokens} t using ${users} u
    where t.digest = ${$.digest} and t.purpose = 'password_reset' and t.expires_at > now()
      and u.id = t.user_id and u.is_active and lower(u.email collate "C") = lower(t.email collate "C")
    returning t.user_id
  ), present as (select now() as moment), owner as (
    update ${users} u set password_hash = ${$.newHash}, ${raiseEpoch},
      email_verified_at = coalesce(u.email_verified_at, present.moment), updated_at = now()
    from spent, present where u.id = spent.user_id returning u.id, u.email, u.session_epoch
  ), other_links as (
    delete from ${oneTimeTokens} t using spent where t.user_id = spent.user_id and t.purpose <> 'password_reset'
  ), ${endSessionsExcept($, sql`owner`)},
  ${insertNotice({ template: 'password-changed', userId: sql`owner.id`, recipient: sql`owner.email`, from: sql`owner` })}, audited as (
    ${insertEvent($, { type: 'password.reset', userId: sql`owner.id`, actorId: sql`owner.id`, from: sql`owner` })}
  )
  select owner.id as "userId", (select count from ended) as ended from owner`,
  { userId: 'int4', ended: 'int4' },
)

/**
 * Spends a link that confirms an address; that of a change also sets the address, and tells the old one. Fails on the
 * unique index `users_email_key` when somebody else has the address by now.
 */
export const confirmEmail = statement<Origin & { digest: Buffer }, { userId: number }>(
  ($) => sql`
  with spent as (
    delete from ${oneTimeTokens} t using ${users} u
    where t.digest = ${$.digest} and t.purpose in ('email_verify', 'email_change') and t.expires_at > now()
      and u.id = t.user_id and u.is_active
      and (t.purpose = 'email_change' or lower(u.email collate "C") = lower(t.email collate "C"))
    returning t.user_id, t.purpose, t.email, u.email as old_email,
      lower(t.email collate "C") is distinct from lower(u.email collate "C") as moved
  ), present as (select now() as moment), confirmed as (
    update ${users} u set email = case when spent.moved then spent.email else u.email end,
      email_verified_at = case when spent.moved then present.moment else coalesce(u.email_verified_at, present.moment) end,
      updated_at = now()
    from spent, present where u.id = spent.user_id returning u.id
  ), other_links as (
    delete from ${oneTimeTokens} t using spent where t.user_id = spent.user_id and t.purpose <> spent.purpose and spent.moved
  ), ${insertNotice({ template: 'email-changed', userId: sql`change.user_id`, recipient: sql`change.old_email`, from: sql`(select * from spent where moved) change` })}, audited as (
    ${insertEvent($, { type: 'email.verified', userId: sql`spent.user_id`, actorId: sql`spent.user_id`, from: sql`spent where not spent.moved` })}
  ), audited_change as (
    ${insertEvent($, { type: 'email.changed', userId: sql`spent.user_id`, actorId: sql`spent.user_id`, from: sql`spent where spent.moved` })}
  )
  select id as "userId" from confirmed`,
  { userId: 'int4' },
)

/**
 * Queues a link to a new address, unless it is somebody else's. In either case the link of an earlier request to another
 * address ends, or that would tell whether the address is taken. Writes one event.
 */
export const requestEmailChange = statement<Origin & LinkInput & { userId: number; email: string }, never>(
  ($) => sql`
  with owner as (
    select u.id from ${users} u where u.id = ${$.userId}::integer and u.is_active for key share
  ), free as (
    select id from owner where not exists (
      select from ${users} o
      where lower(o.email collate "C") = lower(${$.email}::text collate "C") and o.id <> owner.id
    )
  ), ${upsertLinkMail($, 'email_change', { userId: sql`free.id`, email: sql`${$.email}::text`, from: sql`free` })},
  called_off as (
    delete from ${oneTimeTokens} t using owner
    where t.user_id = owner.id and t.purpose = 'email_change' and not exists (select from link)
      and lower(t.email collate "C") <> lower(${$.email}::text collate "C")
  )
  ${insertEvent($, { type: 'email.change_requested', userId: sql`owner.id`, actorId: sql`owner.id`, from: sql`owner` })}`,
  {},
)

/** The CTEs of another link to an address that is not confirmed, unless the last was queued within the last minute. */
const anotherVerification = ($: Parameters<LinkInput & { userId: number }>) => sql`
  owner as (
    select u.id, u.email from ${users} u
    where u.id = ${$.userId}::integer and u.is_active and u.email_verified_at is null
      and not exists (
        select from ${oneTimeTokens} t
        where t.user_id = u.id and t.purpose = 'email_verify' and t.created_at >= now() - interval '1 minute'
      )
    for key share
  ), ${upsertLinkMail($, 'email_verify', { userId: sql`owner.id`, email: sql`owner.email`, from: sql`owner`, onceAMinute: true })}`

/** Notes a login that has to wait for the confirmation, and queues another link. */
export const resendVerification = statement<Origin & LinkInput & { userId: number }, never>(
  ($) => sql`
  with ${anotherVerification($)}
  ${insertEvent($, { type: 'login.unverified', userId: sql`${$.userId}::integer` })}`,
  {},
)

/** Queues another link to confirm the address; an event tells of it. */
export const requestVerification = statement<Origin & LinkInput & { userId: number }, never>(
  ($) => sql`
  with ${anotherVerification($)}
  ${insertEvent($, { type: 'email.verification_requested', userId: sql`link.user_id`, actorId: sql`link.user_id`, from: sql`link` })}`,
  {},
)

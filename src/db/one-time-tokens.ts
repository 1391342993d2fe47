import { sql } from 'drizzle-orm'
import { type Origin, recorded } from './audit-events.ts'
import { statement } from './client.ts'
import { linkData, linked, type LinkInput } from './links.ts'
import { queued } from './outbox.ts'
import { oneTimeTokens, type User, users } from './schema.ts'
import { endedBut, epochRaised } from './sessions.ts'

const input = sql.placeholder

/** Queues a reset link if an active user has the address and `queue` says so; writes one event in every case. */
export const requestReset = statement<Origin & LinkInput & { email: string; queue: boolean }, never>(sql`
  with owner as (
    select id, email from ${users}
    where lower(email collate "C") = lower(${input('email')}::text collate "C") and is_active and ${input('queue')}::boolean
    for key share
  ), link as (
    ${linked({ purpose: 'password_reset', hours: 1, userId: sql`owner.id`, email: sql`owner.email`, from: sql`owner` })}
  ), mail as (
    ${queued({ template: 'password-reset', userId: sql`owner.id`, recipient: sql`owner.email`, data: linkData('password_reset'), from: sql`owner` })}
  )
  ${recorded({ type: sql`'password.reset_requested'`, userId: sql`(select id from owner)`, actorId: sql`null::integer` })}`)

/** Whose names a new password must not be: the user of a reset link that works. */
export const resetOwner = statement<{ digest: Buffer }, Pick<User, 'email' | 'username' | 'fullName'>>(
  sql`
  select u.email, u.username, u.full_name as "fullName"
  from ${oneTimeTokens} t join ${users} u on u.id = t.user_id
  where t.digest = ${input('digest')} and t.purpose = 'password_reset' and t.expires_at > now()
    and u.is_active and lower(u.email collate "C") = lower(t.email collate "C")`,
  true,
)

/**
 * Spends a reset link: sets the password, ends every session, confirms the address. Of any number that try at once one
 * deletes the row; the others wait for it and find it gone.
 */
export const resetPasswordByLink = statement<
  Origin & { digest: Buffer; newHash: string; keepSessionId: null; reason: 'password_reset' },
  { userId: number; ended: number }
>(sql`
  with spent as (
    delete from ${oneTimeTokens} t using ${users} u
    where t.digest = ${input('digest')} and t.purpose = 'password_reset' and t.expires_at > now()
      and u.id = t.user_id and u.is_active and lower(u.email collate "C") = lower(t.email collate "C")
    returning t.user_id
  ), owner as (
    update ${users} u set password_hash = ${input('newHash')}, ${epochRaised},
      email_verified_at = coalesce(u.email_verified_at, now()), updated_at = now()
    from spent where u.id = spent.user_id returning u.id, u.email, u.session_epoch
  ), other_links as (
    delete from ${oneTimeTokens} t using spent where t.user_id = spent.user_id and t.purpose <> 'password_reset'
  ), ${endedBut(sql`owner`)}, notice as (
    ${queued({ template: 'password-changed', userId: sql`owner.id`, recipient: sql`owner.email`, from: sql`owner` })}
  ), audited as (
    ${recorded({ type: sql`'password.reset'`, userId: sql`owner.id`, from: sql`owner` })}
  )
  select owner.id as "userId", (select count from ended) as ended from owner`)

/**
 * Spends a link that confirms an address; that of a change also sets the address, and tells the old one. Fails on the
 * unique index `users_email_key` when somebody else has the address by now.
 */
export const confirmEmail = statement<Origin & { digest: Buffer }, { userId: number }>(sql`
  with spent as (
    delete from ${oneTimeTokens} t using ${users} u
    where t.digest = ${input('digest')} and t.purpose in ('email_verify', 'email_change') and t.expires_at > now()
      and u.id = t.user_id and u.is_active
      and (t.purpose = 'email_change' or lower(u.email collate "C") = lower(t.email collate "C"))
    returning t.user_id, t.purpose, t.email, u.email as old_email,
      lower(t.email collate "C") is distinct from lower(u.email collate "C") as moved
  ), confirmed as (
    update ${users} u set email = case when spent.moved then spent.email else u.email end,
      email_verified_at = case when spent.moved then now() else coalesce(u.email_verified_at, now()) end, updated_at = now()
    from spent where u.id = spent.user_id returning u.id
  ), other_links as (
    delete from ${oneTimeTokens} t using spent where t.user_id = spent.user_id and t.purpose <> spent.purpose and spent.moved
  ), notice as (
    ${queued({ template: 'email-changed', userId: sql`spent.user_id`, recipient: sql`spent.old_email`, from: sql`spent where spent.moved and spent.old_email is not null` })}
  ), audited as (
    ${recorded({ type: sql`case when spent.moved then 'email.changed' else 'email.verified' end`, userId: sql`spent.user_id`, from: sql`spent` })}
  )
  select id as "userId" from confirmed`)

/** Queues a link to a new address, unless it is somebody else's; writes one event in either case. */
export const requestEmailChange = statement<Origin & LinkInput & { userId: number; email: string }, never>(sql`
  with owner as (
    select u.id from ${users} u
    where u.id = ${input('userId')}::integer and u.is_active and not exists (
      select from ${users} o
      where lower(o.email collate "C") = lower(${input('email')}::text collate "C") and o.id <> u.id
    )
    for key share of u
  ), link as (
    ${linked({ purpose: 'email_change', hours: 24, userId: sql`owner.id`, email: sql`${input('email')}::text`, from: sql`owner` })}
  ), mail as (
    ${queued({ template: 'email-change', userId: sql`owner.id`, recipient: sql`${input('email')}::text`, data: linkData('email_change'), from: sql`owner` })}
  )
  ${recorded({ type: sql`'email.change_requested'`, userId: sql`${input('userId')}::integer` })}`)

/** Queues another link to an address that is not confirmed, unless the last was queued within the last minute. */
export const resendVerification = statement<Origin & LinkInput & { userId: number }, never>(sql`
  with owner as (
    select u.id, u.email from ${users} u
    where u.id = ${input('userId')}::integer and u.is_active and u.email is not null and u.email_verified_at is null
    for key share
  ), link as (
    ${linked({ purpose: 'email_verify', hours: 24, userId: sql`owner.id`, email: sql`owner.email`, from: sql`owner` })}
    where ${oneTimeTokens}.created_at < now() - interval '1 minute' returning user_id
  ), mail as (
    ${queued({ template: 'email-verify', userId: sql`owner.id`, recipient: sql`owner.email`, data: linkData('email_verify'), from: sql`owner join link on link.user_id = owner.id` })}
  )
  ${recorded({ type: sql`'login.unverified'`, userId: sql`${input('userId')}::integer`, actorId: sql`null::integer` })}`)

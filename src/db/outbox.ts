import { type SQL, sql } from 'drizzle-orm'
import { type Origin, recorded } from './audit-events.ts'
import { statement } from './client.ts'
import { oneTimeTokens, outbox, users } from './schema.ts'

const input = sql.placeholder

export type Template = 'email-verify' | 'password-reset' | 'email-change' | 'password-changed' | 'email-changed'

/** The INSERT that queues one mail per row of `from` in the same statement as its cause. */
export function queued(mail: { template: Template; userId: SQL; recipient: SQL; data?: SQL; from: SQL }): SQL {
  return sql`insert into ${outbox} (user_id, template, recipient, data)
    select ${mail.userId}, ${sql.raw(`'${mail.template}'`)}, ${mail.recipient}, ${mail.data ?? sql`'{}'::jsonb`}
    from ${mail.from}`
}

export interface ClaimedMail {
  readonly id: number
  readonly userId: number | null
  readonly template: Template
  readonly recipient: string
  readonly data: Readonly<Record<string, string>>
  readonly attempts: number
  readonly name: string | null
  /** The same at every attempt, and of no other outbox. */
  readonly messageId: string
  readonly tooOld: boolean
  /** Of the link that still works; null when there is none, or no longer. */
  readonly digest: Buffer | null
}

/** Takes up to `limit` due mails for 60 seconds; others pass over what is taken. */
export const claimMails = statement<{ limit: number }, ClaimedMail>(sql`
  with due as (
    select id from ${outbox} where sent_at is null and dead_at is null and due_at <= now()
    order by due_at limit ${input('limit')}::integer for update skip locked
  ), claimed as (
    update ${outbox} o set attempts = o.attempts + 1, due_at = now() + interval '60 seconds'
    from due where o.id = due.id returning o.*
  )
  select c.id::float8 as id, c.user_id as "userId", c.template, c.recipient, c.data, c.attempts, u.full_name as name,
    c.id || '.' || (extract(epoch from c.created_at) * 1000000)::bigint as "messageId",
    c.created_at < now() - interval '72 hours' as "tooOld", t.digest
  from claimed c left join ${users} u on u.id = c.user_id
    left join ${oneTimeTokens} t on t.user_id = c.user_id and t.purpose = c.data ->> 'purpose' and t.expires_at > now()
  order by c.id`)

/** Notes that the mail server has taken a mail. */
export const markMailSent = statement<{ id: number }, never>(
  sql`update ${outbox} set sent_at = now(), last_error = null where id = ${input('id')}::bigint`,
  true,
)

/** Renews the lease of a mail that is under way. */
export const holdMail = statement<{ id: number }, never>(
  sql`update ${outbox} set due_at = now() + interval '60 seconds' where id = ${input('id')}::bigint and sent_at is null`,
  true,
)

/** Gives a mail back that could not be tried, as if it had not been taken. */
export const releaseMail = statement<{ id: number }, never>(sql`
  update ${outbox} set attempts = attempts - 1, due_at = now()
  where id = ${input('id')}::bigint and sent_at is null`)

/** Lets a mail that was refused for now be tried again after `seconds`. */
export const retryMail = statement<{ id: number; seconds: number; error: string }, never>(
  sql`
  update ${outbox} set due_at = now() + make_interval(secs => ${input('seconds')}::integer), last_error = ${input('error')}
  where id = ${input('id')}::bigint and sent_at is null`,
  true,
)

/** Gives a mail up, with an event that says why. */
export const abandonMail = statement<Origin & { id: number; error: string }, never>(sql`
  with dead as (
    update ${outbox} set dead_at = now(), last_error = ${input('error')}
    where id = ${input('id')}::bigint and sent_at is null and dead_at is null returning user_id, template, last_error
  )
  ${recorded({
    type: sql`'mail.abandoned'`,
    userId: sql`dead.user_id`,
    actorId: sql`null::integer`,
    detail: sql`jsonb_build_object('template', dead.template, 'error', dead.last_error)`,
    from: sql`dead`,
  })}`)

/** How many mails wait. */
export const queuedMails = statement<Record<string, never>, { count: number }>(
  sql`select count(*)::integer as count from ${outbox} where sent_at is null and dead_at is null`,
  true,
)

/** Deletes up to 1,000 mails that were sent or given up longer ago than the retention (days). */
export const sweepOutbox = statement<{ days: number }, { deleted: number }>(sql`
  with batch as (
    select id from ${outbox}
    where created_at < now() - make_interval(days => ${input('days')}::integer)
      and coalesce(sent_at, dead_at) < now() - make_interval(days => ${input('days')}::integer)
    limit 1000 for update skip locked
  ), gone as (
    delete from ${outbox} using batch where ${outbox}.id = batch.id returning 1
  )
  select count(*)::integer as deleted from gone`)

/** Deletes up to 1,000 links that have expired. */
export const sweepOneTimeTokens = statement<Record<string, never>, { deleted: number }>(sql`
  with batch as (
    select user_id, purpose from ${oneTimeTokens} where expires_at < now() limit 1000 for update skip locked
  ), gone as (
    delete from ${oneTimeTokens} t using batch where t.user_id = batch.user_id and t.purpose = batch.purpose returning 1
  )
  select count(*)::integer as deleted from gone`)

import { type SQL, sql } from 'drizzle-orm/sql'
import { type Origin, insertEvent } from '#src/features/audit/audit.sql.ts'
import { type NoInput, type Parameters, statement } from '#src/db/statement.ts'
import { mailQuotas, oneTimeTokens, outbox, users } from '#src/db/schema.ts'
import type { Template } from './mails.ts'

/** The INSERT that queues one mail per row of `from` in the same statement as its cause. */
export function insertMail(mail: { template: Template; userId: SQL; recipient: SQL; data?: SQL; from: SQL }): SQL {
  return sql`insert into ${outbox} (user_id, template, recipient, data)
    select ${mail.userId}, ${sql.raw(`'${mail.template}'`)}, ${mail.recipient}, ${mail.data ?? sql`'{}'::jsonb`}
    from ${mail.from}`
}

interface Quota {
  /** Links can be asked for by anybody, so notices of changes are counted apart: a flood of links suppresses none. */
  readonly kind: 'link' | 'notice'
  readonly recipient: SQL
  /** One row, or none. */
  readonly from: SQL
}

/**
 * The UPSERT that counts a mail to an address and returns a row while it is one of five within an hour. Statements that
 * count the same address wait for each other's row, so 50 at once are five mails.
 */
export function withinQuota({ kind, recipient, from }: Quota): SQL {
  const isOver = sql`excluded.begun_at - quota.begun_at >= interval '1 hour'`
  return sql`insert into ${mailQuotas} as quota (recipient, kind, begun_at)
    select sha256(convert_to(lower(${recipient} collate "C"), 'UTF8')), ${sql.raw(`'${kind}'`)}, now()
    from ${from} where ${recipient} is not null
    on conflict (recipient, kind) do update
      set begun_at = case when ${isOver} then excluded.begun_at else quota.begun_at end,
        count = case when ${isOver} then 1 else quota.count + 1 end
      where ${isOver} or quota.count < 5
    returning quota.count`
}

/** The CTEs that tell the owner of an address of a change, within the quota of the address; `from` has one row or none. */
export function insertNotice(notice: { template: Template; userId: SQL; recipient: SQL; from: SQL }): SQL {
  const { recipient, from } = notice
  return sql`notice_quota as (${withinQuota({ kind: 'notice', recipient, from })}), notice as (
    ${insertMail({ ...notice, from: sql`${from}, notice_quota` })}
  )`
}

export interface ClaimedMail extends Claim {
  readonly userId: number | null
  readonly template: Template
  readonly recipient: string
  readonly data: Readonly<Record<string, string>>
  readonly attempts: number
  /** Of a user who has confirmed the address; what anybody typed goes to no stranger. */
  readonly name: string | null
  /** The same at every attempt, and of no other outbox. */
  readonly messageId: string
  readonly tooOld: boolean
  /** Of the link that still works; null when there is none, or no longer. */
  readonly digest: Buffer | null
}

/** A mail and the number of the claim on it; once another worker has claimed it, the older number decides nothing. */
interface Claim {
  readonly id: number
  readonly claim: number
}

/** Longer than the database may be away before another worker takes a mail that is out already. */
const lease = sql.raw("interval '3 minutes'")
const claimed = ($: Parameters<Claim>) =>
  sql`id = ${$.id}::bigint and claim = ${$.claim}::integer and sent_at is null and dead_at is null`

/** Takes up to `limit` due mails for the length of a lease, but for those in `except`; others pass over what is taken. */
export const claimMails = statement<{ limit: number; except: readonly string[] }, ClaimedMail>(
  ($) => sql`
  with due as (
    select id from ${outbox} where sent_at is null and dead_at is null and due_at <= now()
      and id <> all(${$.except}::text[]::bigint[])
    order by due_at limit ${$.limit}::integer for update skip locked
  ), claimed as (
    update ${outbox} o set attempts = o.attempts + 1, claim = o.claim + 1, due_at = now() + ${lease}
    from due where o.id = due.id returning o.*
  )
  select c.id::float8 as id, c.claim, c.user_id as "userId", c.template, c.recipient, c.data, c.attempts, u.full_name as name,
    c.id || '.' || (extract(epoch from c.created_at) * 1000000)::bigint as "messageId",
    c.created_at < now() - interval '72 hours' as "tooOld", t.digest
  from claimed c
    left join ${users} u on u.id = c.user_id and u.email_verified_at is not null
      and lower(u.email collate "C") = lower(c.recipient collate "C")
    left join ${oneTimeTokens} t on t.user_id = c.user_id and t.purpose = c.data ->> 'purpose' and t.expires_at > now()
  order by c.id`,
  {
    id: 'float8',
    claim: 'int4',
    userId: 'int4',
    template: 'text',
    recipient: 'text',
    data: 'jsonb',
    attempts: 'int4',
    name: 'text',
    messageId: 'text',
    tooOld: 'bool',
    digest: 'bytea',
  },
)

/** Notes that the mail server has taken mails, whoever holds the claim by now: what is out is out. */
export const markMailsSent = statement<{ ids: readonly string[] }, never>(
  ($) =>
    sql`update ${outbox} set sent_at = now(), last_error = null where id = any(${$.ids}::text[]::bigint[]) and sent_at is null`,
  {},
  { repeatable: true },
)

/** Renews the lease of a mail that is under way. */
export const holdMail = statement<Claim, never>(
  ($) => sql`update ${outbox} set due_at = now() + ${lease} where ${claimed($)}`,
  {},
  { repeatable: true },
)

/** Gives a mail back that could not be tried, as if it had not been taken. */
export const releaseMail = statement<Claim, never>(
  ($) => sql`update ${outbox} set attempts = attempts - 1, due_at = now() where ${claimed($)}`,
  {},
)

/** Lets a mail that was refused for now be tried again after `seconds`. */
export const retryMail = statement<Claim & { seconds: number; error: string }, never>(
  ($) => sql`
  update ${outbox} set due_at = now() + make_interval(secs => ${$.seconds}::integer), last_error = ${$.error}
  where ${claimed($)}`,
  {},
  { repeatable: true },
)

/** Gives a mail up, with an event that says why. */
export const abandonMail = statement<Origin & Claim & { error: string }, never>(
  ($) => sql`
  with dead as (
    update ${outbox} set dead_at = now(), last_error = ${$.error} where ${claimed($)}
    returning user_id, template, last_error
  )
  ${insertEvent($, {
    type: 'mail.abandoned',
    userId: sql`dead.user_id`,
    detail: sql`jsonb_build_object('template', dead.template, 'error', dead.last_error)`,
    from: sql`dead`,
  })}`,
  {},
)

/** How many mails wait, and for how long the oldest has. */
export const queuedMails = statement<NoInput, { count: number; oldestSeconds: number }>(
  () => sql`
  select count(*)::integer as count,
    coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as "oldestSeconds"
  from ${outbox} where sent_at is null and dead_at is null`,
  { count: 'int4', oldestSeconds: 'float8' },
  { repeatable: true },
)

/** Deletes up to 1,000 quotas whose hour is over. */
export const sweepMailQuotas = statement<NoInput, { deleted: number }>(
  () => sql`
  with batch as (
    select recipient, kind from ${mailQuotas} where begun_at < now() - interval '1 hour'
    limit 1000 for update skip locked
  ), gone as (
    delete from ${mailQuotas} q using batch where q.recipient = batch.recipient and q.kind = batch.kind returning 1
  )
  select count(*)::integer as deleted from gone`,
  { deleted: 'int4' },
)

/** Deletes up to 1,000 mails that were sent or given up longer ago than the retention (days). */
export const sweepOutbox = statement<{ days: number }, { deleted: number }>(
  ($) => sql`
  with batch as (
    select id from ${outbox}
    where created_at < now() - make_interval(days => ${$.days}::integer)
      and coalesce(sent_at, dead_at) < now() - make_interval(days => ${$.days}::integer)
    limit 1000 for update skip locked
  ), gone as (
    delete from ${outbox} using batch where ${outbox}.id = batch.id returning 1
  )
  select count(*)::integer as deleted from gone`,
  { deleted: 'int4' },
)

/** Deletes up to 1,000 links that have expired. */
export const sweepOneTimeTokens = statement<NoInput, { deleted: number }>(
  () => sql`
  with batch as (
    select user_id, purpose from ${oneTimeTokens} where expires_at < now() limit 1000 for update skip locked
  ), gone as (
    delete from ${oneTimeTokens} t using batch where t.user_id = batch.user_id and t.purpose = batch.purpose returning 1
  )
  select count(*)::integer as deleted from gone`,
  { deleted: 'int4' },
)

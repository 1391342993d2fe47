import { type SQL, sql } from 'drizzle-orm/sql'
import { mailOf, type OneTimePurpose } from '#src/features/mail/mails.ts'
import { insertMail, withinQuota } from '#src/features/mail/outbox.sql.ts'
import { oneTimeTokens } from '#src/db/schema.ts'
import type { Parameters } from '#src/db/statement.ts'

/** The parameters of a new link. */
export interface LinkInput {
  readonly nonce: string | null
  readonly digest: Buffer | null
}

interface NewLink {
  readonly userId: SQL
  readonly email: SQL
  /** One row, or none. */
  readonly from: SQL
  /** Leaves a link alone that is younger than a minute. */
  readonly onceAMinute?: boolean
}

/**
 * The CTEs that store a link, in the place of an older one of the same purpose, and queue its mail. Over the quota of the
 * address neither is written: the older link, whose mail went out, stays as it is.
 */
export function upsertLinkMail(
  $: Parameters<LinkInput>,
  purpose: OneTimePurpose,
  { userId, email, from, onceAMinute = false }: NewLink,
): SQL {
  const { template, hours } = mailOf(purpose)
  const name = sql.raw(`'${purpose}'`)
  return sql`link_quota as (${withinQuota({ kind: 'link', recipient: email, from })}), link as (
    insert into ${oneTimeTokens} (user_id, purpose, digest, email, created_at, expires_at)
    select ${userId}, ${name}, ${$.digest}::bytea, ${email}, now(), now() + make_interval(hours => ${sql.raw(String(hours))})
    from ${from}, link_quota
    on conflict (user_id, purpose) do update
      set digest = excluded.digest, email = excluded.email, created_at = excluded.created_at, expires_at = excluded.expires_at
      ${onceAMinute ? sql`where excluded.created_at - ${oneTimeTokens}.created_at > interval '1 minute'` : sql``}
    returning user_id, email
  ), mail as (
    ${insertMail({
      template,
      userId: sql`link.user_id`,
      recipient: sql`link.email`,
      // Enough for who has the key, nothing for who has only the database.
      data: sql`jsonb_build_object('purpose', ${name}::text, 'nonce', ${$.nonce}::text)`,
      from: sql`link`,
    })}
  )`
}

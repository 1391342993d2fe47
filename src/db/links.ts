import { type SQL, sql } from 'drizzle-orm'
import { type OneTimePurpose, oneTimeTokens } from './schema.ts'

const input = sql.placeholder

/** The parameters of a new link. */
export interface LinkInput extends Record<string, unknown> {
  readonly nonce: string | null
  readonly digest: Buffer | null
}

/** The INSERT that stores a link for each row of `from`; it takes the place of an older one of the same purpose. */
export function linked(link: { purpose: OneTimePurpose; hours: number; userId: SQL; email: SQL; from: SQL }): SQL {
  return sql`insert into ${oneTimeTokens} (user_id, purpose, digest, email, expires_at)
    select ${link.userId}, ${sql.raw(`'${link.purpose}'`)}, ${input('digest')}::bytea, ${link.email},
      now() + make_interval(hours => ${sql.raw(String(link.hours))})
    from ${link.from}
    on conflict (user_id, purpose) do update
      set digest = excluded.digest, email = excluded.email, created_at = now(), expires_at = excluded.expires_at`
}

/** What the mail of a link carries: enough for who has the key, nothing for who has only the database. */
export const linkData = (purpose: OneTimePurpose): SQL =>
  sql`jsonb_build_object('purpose', ${sql.raw(`'${purpose}'`)}::text, 'nonce', ${input('nonce')}::text)`

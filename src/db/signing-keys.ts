import { sql } from 'drizzle-orm'
import { statement } from './client.ts'
import { signingKeys } from './schema.ts'

const input = sql.placeholder

export interface StoredKey {
  readonly kid: string
  readonly algorithm: string
  readonly publicKey: string
  readonly privateKey: Buffer
  readonly createdAt: Date
  /** Milliseconds from now, by the database's clock; negative once it may sign. */
  readonly signsInMs: number
  /** Not the newest of its algorithm any more. */
  readonly retired: boolean
}

interface NewKey extends Record<string, unknown> {
  readonly kid: string
  readonly algorithm: string
  readonly publicKey: string
  readonly privateKey: Buffer
}

/** The keys whose tokens still verify, the one that signs last first. */
export const liveSigningKeys = statement<Record<string, never>, StoredKey>(
  sql`
  select kid, algorithm, public_key as "publicKey", private_key as "privateKey", created_at as "createdAt",
    (extract(epoch from signs_from - clock_timestamp()) * 1000)::float8 as "signsInMs", verifies_until is not null as retired
  from ${signingKeys} where verifies_until is null or verifies_until > now() order by signs_from desc`,
  true,
)

/** Stores the first key of an algorithm, unless another instance was faster. */
export const addFirstSigningKey = statement<NewKey, { kid: string }>(sql`
  insert into ${signingKeys} (kid, algorithm, public_key, private_key, signs_from)
  values (${input('kid')}, ${input('algorithm')}, ${input('publicKey')}, ${input('privateKey')}, now())
  on conflict do nothing returning kid`)

/**
 * Publishes a successor that signs after `leadSeconds`, unless the newest key is younger than `minAgeSeconds`; the old
 * one verifies until the last of its tokens (`tokenSeconds`) has expired.
 */
export const rotateSigningKey = statement<
  NewKey & { leadSeconds: number; tokenSeconds: number; minAgeSeconds: number },
  { kid: string }
>(sql`
  with retired as (
    update ${signingKeys}
    set verifies_until = now() + make_interval(secs => ${input('leadSeconds')}::integer + ${input('tokenSeconds')}::integer)
    where algorithm = ${input('algorithm')}::text and verifies_until is null
      and created_at <= now() - make_interval(secs => ${input('minAgeSeconds')}::integer)
    returning kid
  )
  insert into ${signingKeys} (kid, algorithm, public_key, private_key, signs_from)
  select ${input('kid')}::text, ${input('algorithm')}::text, ${input('publicKey')}::text, ${input('privateKey')}::bytea,
    now() + make_interval(secs => ${input('leadSeconds')}::integer)
  from retired returning kid`)

/** Deletes the keys whose last token expired more than a day ago. */
export const sweepSigningKeys = statement<Record<string, never>, never>(
  sql`delete from ${signingKeys} where verifies_until < now() - interval '1 day'`,
)

import { sql } from 'drizzle-orm/sql'
import { type NoInput, type Parameter, statement } from '#src/db/statement.ts'
import { signingKeys } from '#src/db/schema.ts'

const fromNow = (seconds: Parameter<number>) => sql`now() + make_interval(secs => ${seconds}::integer)`
const millisecondsTo = (moment: ReturnType<typeof sql>) =>
  sql`(extract(epoch from ${moment} - clock_timestamp()) * 1000)::float8`

/** Spans of time are milliseconds from now by the database's clock, so that instances need not agree on the time. */
export interface StoredKey {
  readonly kid: string
  readonly algorithm: string
  /** Empty for HS256, like the private key: such a row says only how long the key of `SECRET_KEY` verifies. */
  readonly publicKey: string
  readonly privateKey: Buffer
  readonly madeInMs: number
  readonly signsInMs: number
  /** `null`: the newest of its algorithm, which verifies until it gets a successor. */
  readonly verifiesForMs: number | null
}

interface NewKey {
  readonly kid: string
  readonly algorithm: string
  readonly publicKey: string
  readonly privateKey: Buffer
}

/** The keys whose tokens verify, the one that signs last first; those in `vouched` unless they were retired. */
export const liveSigningKeys = statement<{ vouched: readonly string[] }, StoredKey>(
  ($) => sql`
  select kid, algorithm, public_key as "publicKey", private_key as "privateKey",
    ${millisecondsTo(sql`created_at`)} as "madeInMs", ${millisecondsTo(sql`signs_from`)} as "signsInMs",
    ${millisecondsTo(sql`verifies_until`)} as "verifiesForMs"
  from ${signingKeys}
  where verifies_until is null or verifies_until > now()
    or (kid = any (${$.vouched}::text[]) and verifies_until > '-infinity')
  order by signs_from desc`,
  {
    kid: 'text',
    algorithm: 'text',
    publicKey: 'text',
    privateKey: 'bytea',
    madeInMs: 'float8',
    signsInMs: 'float8',
    verifiesForMs: 'float8',
  },
  { repeatable: true },
)

/** Notes that the keys of `SECRET_KEY` verify for `seconds` more, unless they were retired. */
export const vouchForSecretKeys = statement<{ kids: readonly string[]; seconds: number }, never>(
  ($) => sql`
  insert into ${signingKeys} (kid, algorithm, public_key, private_key, signs_from, verifies_until)
  select kid, 'HS256', '', ''::bytea, now(), ${fromNow($.seconds)} from unnest(${$.kids}::text[]) as kid
  on conflict (kid) do update set verifies_until = greatest(${signingKeys}.verifies_until, excluded.verifies_until)
  where ${signingKeys}.verifies_until > '-infinity'`,
  {},
  { repeatable: true },
)

/** Stores the first key of an algorithm, which signs after `leadSeconds`, unless another instance was faster. */
export const addFirstSigningKey = statement<NewKey & { leadSeconds: number }, { kid: string }>(
  ($) => sql`
  insert into ${signingKeys} (kid, algorithm, public_key, private_key, signs_from)
  values (${$.kid}, ${$.algorithm}, ${$.publicKey}, ${$.privateKey}, ${fromNow($.leadSeconds)})
  on conflict do nothing returning kid`,
  { kid: 'text' },
)

/**
 * Publishes a successor that signs after `leadSeconds`, unless the newest key is younger than `minAgeSeconds`; the old
 * one verifies for `seconds` more.
 */
export const rotateSigningKey = statement<
  NewKey & { leadSeconds: number; seconds: number; minAgeSeconds: number },
  { kid: string }
>(
  ($) => sql`
  with retired as (
    update ${signingKeys} set verifies_until = ${fromNow($.seconds)}
    where algorithm = ${$.algorithm}::text and verifies_until is null
      and created_at <= now() - make_interval(secs => ${$.minAgeSeconds}::integer)
    returning kid
  )
  insert into ${signingKeys} (kid, algorithm, public_key, private_key, signs_from)
  select ${$.kid}::text, ${$.algorithm}::text, ${$.publicKey}::text, ${$.privateKey}::bytea,
    ${fromNow($.leadSeconds)}
  where exists (select from retired)
    or not exists (select from ${signingKeys} where algorithm = ${$.algorithm}::text and verifies_until is null)
  on conflict do nothing returning kid`,
  { kid: 'text' },
)

/** Lets the newest keys of all other algorithms verify for `seconds` more and no longer. */
export const retireOtherAlgorithms = statement<{ algorithm: string; seconds: number }, never>(
  ($) => sql`
  update ${signingKeys} set verifies_until = ${fromNow($.seconds)}
  where algorithm <> ${$.algorithm}::text and verifies_until is null`,
  {},
  { repeatable: true },
)

/** Lets a key that still signs verify for `seconds` more. */
export const extendSigningKey = statement<{ kid: string; seconds: number }, never>(
  ($) => sql`
  update ${signingKeys} set verifies_until = ${fromNow($.seconds)}
  where kid = ${$.kid} and verifies_until > now() and verifies_until < ${fromNow($.seconds)}`,
  {},
  { repeatable: true },
)

/** Ends a key at once and for good. */
export const retireSigningKey = statement<{ kid: string }, { kid: string }>(
  ($) => sql`
  update ${signingKeys} set verifies_until = '-infinity'
  where kid = ${$.kid} and (verifies_until is null or verifies_until > now()) returning kid`,
  { kid: 'text' },
)

/** Deletes the keys whose last token expired more than a day ago; that a `SECRET_KEY` was retired is not forgotten. */
export const sweepSigningKeys = statement<NoInput, never>(
  () => sql`
  delete from ${signingKeys}
  where verifies_until < now() - interval '1 day' and (algorithm <> 'HS256' or verifies_until > '-infinity')`,
  {},
)

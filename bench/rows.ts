import { createHash } from 'node:crypto'
import { hash } from '@node-rs/argon2'
import type postgres from 'postgres'
import { formatRefreshToken } from '#src/features/tokens/tokens.ts'
import { benchPassword } from './load.ts'

/** A session with the generation of its unspent token. */
export interface Head {
  readonly id: string
  readonly userId: number
  readonly generation: number
}

const tokensPerSession = 5
const sessionsPerUser = 10

/**
 * Writes users, sessions and five tokens each as if they had been issued over the last three days: sessions in the order
 * of their opening, tokens in the order of their issue, which is not that of their sessions.
 */
export async function writeRows(sql: postgres.Sql, sessions: number): Promise<void> {
  const passwordHash = await hash(benchPassword, { memoryCost: 19_456, timeCost: 2, parallelism: 1 })
  const users = sessions / sessionsPerUser
  // Without foreign keys, which would be checked row by row.
  await sql`set session_replication_role = replica`
  const makeIndexes = await dropIndexes(sql)
  await sql`
    insert into users (email, username, password_hash)
    select 'user' || n || '@example.com', 'user' || n, ${passwordHash} from generate_series(1, ${users}::integer) n`
  // Ids in the order of time, as UUIDv7 has them.
  await sql`
    insert into sessions (id, user_id, epoch, generation, created_at, expires_at, successor_salt, refreshed_at, ip, user_agent)
    select overlay(overlay(lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || substr(md5(n::text), 1, 20)
        placing '7' from 13) placing '8' from 17)::uuid,
      1 + n % ${users}::integer, 0, ${tokensPerSession - 1}::integer, at, at + interval '30 days', '\\x00112233445566778899aabbccddeeff',
      at + interval '2 days', '192.0.2.1', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0'
    from generate_series(1, ${sessions}::integer) n,
      lateral (select now() - interval '3 days' + n * interval '1 day' / ${sessions}::integer as at) begun`
  for (let generation = 0; generation < tokensPerSession; generation++)
    await sql`
      insert into refresh_tokens (session_id, generation, digest, issued_at, expires_at)
      select id, ${generation}::integer, sha256(sha256(convert_to(id || '.' || ${generation}::integer, 'UTF8'))), at, at + interval '7 days'
      from sessions, lateral (
        select created_at + ${generation}::integer * interval '10 hours' + random() * interval '8 hours' as at
      ) issued order by at`
  await makeIndexes()
  await sql`set session_replication_role = origin`
  await sql`vacuum (analyze)`
  await sql`checkpoint`
}

/** Many rows are written sooner without their indexes; the function it returns makes them again. */
async function dropIndexes(sql: postgres.Sql): Promise<() => Promise<void>> {
  const constraints = await sql<{ name: string; definition: string }[]>`
    select conname as name, pg_get_constraintdef(oid) as definition from pg_constraint
    where conrelid = 'refresh_tokens'::regclass and contype = 'p'`
  const indexes = await sql<{ name: string; definition: string }[]>`
    select indexrelid::regclass::text as name, pg_get_indexdef(indexrelid) as definition from pg_index
    where indrelid in ('refresh_tokens'::regclass, 'sessions'::regclass) and not indisprimary`
  for (const { name } of constraints) await sql.unsafe(`alter table refresh_tokens drop constraint ${name}`)
  for (const { name } of indexes) await sql.unsafe(`drop index ${name}`)
  return async () => {
    await sql`set maintenance_work_mem = '512MB'`
    for (const { name, definition } of constraints)
      await sql.unsafe(`alter table refresh_tokens add constraint ${name} ${definition}`)
    for (const { definition } of indexes) await sql.unsafe(definition)
    await sql`reset maintenance_work_mem`
  }
}

/** Up to `limit` sessions from everywhere in the table, in no order. */
export async function someHeads(sql: postgres.Sql, limit: number): Promise<Head[]> {
  return sql<Head[]>`select id, user_id as "userId", generation from sessions order by md5(id::text) limit ${limit}`
}

/** The unspent refresh token of a session that `writeRows` wrote. */
export function tokenOf(head: Head): string {
  return formatRefreshToken({ sessionId: head.id, generation: head.generation, secret: secretOf(head) })
}

/** What the database holds of that token. */
export function digestOfHead(head: Head): Buffer {
  return createHash('sha256').update(secretOf(head)).digest()
}

function secretOf({ id, generation }: Head): Buffer {
  return createHash('sha256').update(`${id}.${generation}`).digest()
}

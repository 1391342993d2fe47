import { readFileSync } from 'node:fs'
import type postgres from 'postgres'
import { describe, expect, test } from 'vitest'
import { sweep } from '#src/features/sessions/sweep.ts'
import { cloneDatabase, startService, type TestDatabase } from '#test/support/service.ts'

const sqlOf = (name: string) => readFileSync(new URL(`../../deploy/citus/${name}`, import.meta.url), 'utf8')

describe('what spreads the tables over Citus', () => {
  test('names tables, columns and keys that there are, and leaves the foreign keys as they were', async () => {
    const { sql } = await cloneDatabase()
    // In the place of the extension: each call has to name a table and a column of it.
    await sql.unsafe(`
      create table calls (n serial, call text);
      create function create_reference_table(t regclass) returns void language sql
        as $$ insert into calls (call) values (format('%s on every node', t)) $$;
      create function create_distributed_table(t regclass, col text, colocate_with text default 'none') returns void language sql
        as $$ insert into calls (call) select format('%s by %s beside %s', t, attname, colocate_with)
              from (select 1) one left join pg_attribute on attrelid = t and attname = col $$`)
    const before = await foreignKeys(sql)
    await sql.unsafe(sqlOf('distribute.sql'))
    expect((await sql`select call from calls order by n`).map(({ call }) => call as string)).toEqual([
      'users on every node',
      'sessions by id beside none',
      'refresh_tokens by session_id beside sessions',
    ])
    expect(await foreignKeys(sql)).toEqual(before)
    expect(before).toHaveLength(5)
  })

  test('gives a clock that tells the time of the moment, where the service looks for it first', async () => {
    const { sql } = await cloneDatabase()
    await sql.unsafe(sqlOf('distribute.sql').split('\nbegin;')[0] ?? '')
    await sql`set search_path = public, pg_catalog`
    const [row] = await sql`
      select clock_timestamp() between now() and pg_catalog.clock_timestamp() as tells,
        'clock_timestamp'::regproc::oid = 'public.clock_timestamp'::regproc::oid as is_own`
    expect(row).toEqual({ tells: true, is_own: true })
  })
})

describe('the sweep for Citus', () => {
  test('leaves what the sweep of the service leaves', async () => {
    const { app, ...swept } = await startService()
    const other = await cloneDatabase()
    for (const { sql } of [swept, other]) await writeOld(sql)
    const written = await rowsOf(other)
    await sweep(app.core, { days: 7, auditDays: 365 })
    await other.sql.unsafe(sqlOf('sweep.sql'))
    expect(await rowsOf(other)).toEqual(await rowsOf(swept))
    expect(written.filter((row) => row.startsWith('sessions'))).toHaveLength(30)
    expect((await rowsOf(other)).filter((row) => row.startsWith('sessions'))).not.toHaveLength(30)
  })
})

async function foreignKeys(sql: postgres.Sql): Promise<string[]> {
  const rows = await sql`
    select conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) as key
    from pg_constraint where contype = 'f' order by 1`
  return rows.map(({ key }) => key as string)
}

/** Six users of every kind, five sessions each, three tokens each, and the rest of the tables, on both sides of each limit. */
async function writeOld(sql: postgres.Sql): Promise<void> {
  await sql.unsafe(`
    insert into users (email, is_active, session_epoch, sessions_ended_at, deleted_at)
    select case when n < 5 then n || '@example.com' end, n < 5, n % 2, case when n = 3 then now() - interval '1 hour' end,
      case when n >= 5 then now() - interval '1 hour' end
    from generate_series(1, 6) n;
    insert into sessions (id, user_id, epoch, generation, expires_at, revoked_at, revoke_reason)
    select ('00000000-0000-7000-8000-' || lpad(u.id || '0' || k, 12, '0'))::uuid, u.id, case when k = 1 then 0 else u.session_epoch end, 2,
      now() + case k when 2 then interval '-6 days' when 3 then interval '-8 days' else interval '20 days' end,
      case when k = 4 then now() - u.id * interval '3 days' end, case when k = 4 then 'logout' end
    from users u, generate_series(1, 5) k;
    insert into refresh_tokens (session_id, generation, digest, issued_at, expires_at)
    select s.id, g, sha256(s.id::text::bytea), now() - interval '20 days' * (3 - g) + interval '9 days' * (s.user_id % 3),
      now() + case g when 1 then interval '1 day' * (1 - 2 * (s.user_id % 2))
        else interval '5 days' * (s.user_id % 4) - interval '20 days' * (2 - g) - interval '9 days' * (s.user_id % 2) end
    from sessions s, generate_series(0, 2) g;
    insert into audit_events (type, user_id, created_at)
    select kind, u.id, now() - interval '100 days' * k from users u, generate_series(0, 4) k,
      unnest(array['login.succeeded', 'user.deleted']) kind;
    insert into outbox (user_id, template, recipient, data, created_at, sent_at)
    select u.id, 'password-changed', 'a@example.com', '{}', now() - interval '6 days' * k, case when k <> 2 then now() - interval '5 days' * k end
    from users u, generate_series(0, 2) k;
    insert into one_time_tokens (user_id, purpose, digest, email, expires_at)
    select id, 'email_verify', sha256(id::text::bytea), 'a@example.com', now() + interval '1 hour' * (id - 3.5) from users;
    insert into auth_sessions (digest, kind, user_id, epoch, data, tries_left, expires_at)
    select sha256(id::text::bytea), 'trial', id, 0, '', 1, now() + interval '1 hour' * (id - 3.5) from users;
    insert into mail_quotas (recipient, kind, begun_at)
    select sha256(k::text::bytea), 'link', now() - interval '40 minutes' * k from generate_series(0, 3) k`)
}

/** Every row of every table, by what does not change from one database to the other. */
async function rowsOf({ sql }: TestDatabase): Promise<string[]> {
  const rows = await sql`
    select 'users ' || id || ' ' || (sessions_ended_at is null) as row from users
    union all select 'sessions ' || id || ' ' || coalesce(revoke_reason, '') from sessions
    union all select 'refresh_tokens ' || session_id || ' ' || generation from refresh_tokens
    union all select 'audit_events ' || id || ' ' || type from audit_events
    union all select 'outbox ' || id from outbox
    union all select 'one_time_tokens ' || user_id from one_time_tokens
    union all select 'auth_sessions ' || user_id from auth_sessions
    union all select 'mail_quotas ' || encode(recipient, 'hex') from mail_quotas
    order by 1`
  return rows.map(({ row }) => row as string)
}

import { sql } from 'drizzle-orm/sql'
import { auditEvents, users } from '#src/db/schema.ts'

/**
 * CTEs that find the accounts of a batch that are there already, by address or else by username, and what each lacks
 * that its row has. Whoever registered by themselves may have typed somebody else's address: only accounts that an import
 * made, or that nobody has a password for, are given an address or its confirmation.
 */
export const findExistingUsers = sql`
  candidates as (
    select b.n, u.id, 0 as rank
    from batch b join ${users} u on lower(u.email collate "C") = lower(b.email collate "C")
    union all
    select b.n, u.id, 1
    from batch b join ${users} u on lower(u.username collate "C") = lower(b.username collate "C")
    where b.email is null or u.email is null
  ), matched as (
    select distinct on (id) n, id from (select distinct on (n) n, id from candidates order by n, rank) nearest order by id, n
  ), known as (
    select m.n, u.id, u.email, u.email_verified_at, u.username as old_username, u.full_name as old_name, u.password_hash as old_hash,
      u.password_hash is null
        or exists (select from ${auditEvents} e where e.user_id = u.id and e.type = 'user.imported') as is_imported
    from matched m join ${users} u on u.id = m.id
  ), lacking as (
    select k.n, k.id,
      case when k.old_hash is null then b.password_hash end as password_hash,
      case when k.old_name is null then b.full_name end as full_name,
      case when k.old_username is null and not exists (
        select from ${users} o where lower(o.username collate "C") = lower(b.username collate "C")
      ) then b.username end as username,
      case when k.email is null and k.is_imported then b.email end as email,
      k.is_imported and b.email_verified and k.email_verified_at is null and b.email is not null as confirms
    from known k join batch b on b.n = k.n
  ), wanting as (
    select * from lacking
    where password_hash is not null or full_name is not null or username is not null or email is not null or confirms
  )`

/** CTE that fills in what is `wanting`, and overwrites nothing that came in between. */
export const updateExistingUsers = sql`
  filled as (
    update ${users} u set
      password_hash = coalesce(u.password_hash, w.password_hash),
      full_name = coalesce(u.full_name, w.full_name),
      username = coalesce(u.username, w.username),
      email = coalesce(u.email, w.email),
      email_verified_at = case when w.confirms then coalesce(u.email_verified_at, now()) else u.email_verified_at end,
      updated_at = now()
    from wanting w where u.id = w.id
    returning u.id, w.n, w.password_hash is not null as with_hash, array_remove(array[
      case when w.password_hash is not null then 'password_hash' end,
      case when w.full_name is not null then 'full_name' end,
      case when w.username is not null then 'username' end,
      case when w.email is not null then 'email' end,
      case when w.confirms then 'email_verified' end
    ], null) as fields
  )`

import { connectAlone } from '#src/db/connect-alone.ts'

/** Spreads the tokens over so many hash partitions by their sessions, for comparison. */
export function partitionTokens(count: number): (url: string) => Promise<void> {
  return async (url) => {
    const sql = connectAlone(url)
    await sql`alter table refresh_tokens rename to plain`
    await sql`create table refresh_tokens (like plain including defaults) partition by hash (session_id)`
    for (let remainder = 0; remainder < count; remainder++)
      await sql.unsafe(
        `create table refresh_tokens_${remainder} partition of refresh_tokens for values with (modulus ${count}, remainder ${remainder})`,
      )
    await sql`insert into refresh_tokens select * from plain order by issued_at`
    await sql`drop table plain`
    await sql`set maintenance_work_mem = '512MB'`
    await sql`alter table refresh_tokens add primary key (session_id, generation)`
    await sql`create index on refresh_tokens (issued_at)`
    await sql`alter table refresh_tokens add foreign key (session_id) references sessions on delete cascade`
    await sql`vacuum (analyze) refresh_tokens`
    await sql`checkpoint`
    await sql.end()
  }
}

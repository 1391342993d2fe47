import { globSync } from 'node:fs'
import { join } from 'node:path'
import { sql as template } from 'drizzle-orm'
import { describe, expect, test } from 'vitest'
import { sessions } from '#src/db/schema.ts'
import { type Compiled, statement } from '#src/db/statement.ts'
import { writeRows } from '#bench/rows.ts'
import { cloneDatabase } from '#test/support/service.ts'

/** What works in the background, for an administrator or on the command line, and may read many rows. */
const background =
  /^(reachable|eventsOfUser|sweep|mark|clear|import|update(Batch)|try|export|claim|queued|hold|release|retry|abandon|usersWhere|userCount|liveSessionCount|liveSigningKeys|vouch|addFirst|rotateSigning|retire|extend)/
const files = globSync('src/{db,features}/**/*.sql.ts').toSorted()
const found = (await Promise.all(files.map(statementsOf))).flat()

const { sql } = await cloneDatabase()
await writeRows(sql, 10_000)
await sql`
  insert into one_time_tokens (user_id, purpose, digest, email, expires_at)
  select id, 'email_verify', sha256(id::text::bytea), email, now() from users`
await sql`
  insert into auth_sessions (digest, kind, user_id, epoch, data, tries_left, expires_at)
  select sha256(id::text::bytea), 'trial', id, 0, '', 1, now() from users`
await sql`
  insert into outbox (template, user_id, recipient, data) select 'password-changed', id, email, '{}' from users`
await sql`vacuum (analyze)`
await sql`set plan_cache_mode = force_generic_plan`
// Tables with few rows would be read as a whole; here only what cannot be found by a key is.
for (const method of ['seqscan', 'hashjoin', 'mergejoin', 'material']) await sql.unsafe(`set enable_${method} = off`)

interface Plan {
  readonly 'Node Type': string
  readonly 'Relation Name'?: string
  readonly 'Index Cond'?: string
  readonly 'Recheck Cond'?: string
  readonly Plans?: readonly Plan[]
}

/** The tables that a statement would read without a key, however many rows they have. */
async function tablesScanned({ text, names }: Compiled): Promise<string[]> {
  await sql.unsafe(`prepare tried as ${text}`)
  try {
    const given = names.length > 0 ? `(${names.map(() => 'null').join(', ')})` : ''
    const [row] = await sql.unsafe<[{ 'QUERY PLAN': [{ Plan: Plan }] }]>(`explain (format json) execute tried${given}`)
    return scansIn(row['QUERY PLAN'][0].Plan)
  } finally {
    await sql.unsafe('deallocate tried')
  }
}

function scansIn(plan: Plan): string[] {
  const { 'Node Type': type, 'Relation Name': table, 'Index Cond': key, 'Recheck Cond': keys } = plan
  const isScan = table !== undefined && type.endsWith('Scan') && key === undefined && keys === undefined
  return [...(isScan ? [`${type} on ${table}`] : []), ...(plan.Plans ?? []).flatMap(scansIn)]
}

async function statementsOf(file: string): Promise<{ name: string; statement: Compiled }[]> {
  const exported = (await import(join(process.cwd(), file))) as Record<string, unknown>
  return Object.entries(exported).flatMap(([name, value]) =>
    typeof value === 'object' && value !== null && 'text' in value ? [{ name, statement: value as Compiled }] : [],
  )
}

describe('every statement of a request finds its rows by a key:', () => {
  test.each(found.filter(({ name }) => !background.test(name)))('$name', async (one) => {
    expect(await tablesScanned(one.statement)).toEqual([])
  })

  test('one that does not is seen', async () => {
    const byAddress = statement<{ ip: string }, { id: string }>(
      ($) => template`select id from ${sessions} where ip = ${$.ip}`,
      { id: 'uuid' },
    )
    expect(await tablesScanned(byAddress)).toEqual(['Seq Scan on sessions'])
  })
})

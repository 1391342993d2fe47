import { globSync } from 'node:fs'
import { join } from 'node:path'
import { sql as template } from 'drizzle-orm'
import { describe, expect, test } from 'vitest'
import { sessions, users } from '#src/db/schema.ts'
import { type Compiled, type NoInput, statement } from '#src/db/statement.ts'
import { writeRows } from '#bench/rows.ts'
import { cloneDatabase } from '#test/support/service.ts'
import { type Access, accessesOf, listed } from '#test/support/plans.ts'

/** What works in the background, for an administrator or on the command line, and may read many rows. */
const background =
  /^(reachable|eventsOfUser|sweep|mark|clear|import|update(Batch)|try|export|claim|queued|hold|release|retry|abandon|usersWhere|userCount|liveSessionCount|liveSigningKeys|vouch|addFirst|rotateSigning|retire|extend)/

/** The statements that several requests share, and what each of them asks alone where the database does not share. */
const shared = { rotateRefreshTokens: 'rotateRefreshToken', sessionStates: 'sessionState' }

const allOfUser = 'sessions by user_id'
/** What reads more than one session and one user, and no refresh or authenticated request waits for. */
const wider: Readonly<Record<string, string[]>> = {
  // The limit on sessions, their number and their list are about all of a user's.
  insertSession: [allOfUser],
  sessionsOfUser: [allOfUser],
  endSessions: [allOfUser],
  changePassword: [allOfUser],
  resetPasswordByLink: [allOfUser],
  // One active administrator has to stay.
  changeUser: ['all users', allOfUser],
  deleteUser: ['all users'],
  // An address belongs to one.
  requestEmailChange: ['users by $email and $userId'],
}

const files = globSync('src/{db,features}/**/*.sql.ts').toSorted()
const found = (await Promise.all(files.map(statementsOf))).flat().filter(({ name }) => !background.test(name))

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

/** By which column the rows of one session, or of one user, are found; and the columns that hold such an id. */
const owners = {
  session: { sessions: ['id'], refresh_tokens: ['session_id'], ids: /\.(id|session_id)$/ },
  user: { users: ['id', 'lower(email)', 'lower(username)'], ids: /\.(id|user_id|email|col1)$/ },
} as const

/** The columns that find the rows of one session, one user or one link. */
const finding = ['id', 'session_id', 'digest', 'user_id']

/** Why a statement is not about one session and one user: none when it is. */
function widthOf(accesses: readonly Access[]): string[] {
  const scans = accesses.filter(({ isScan }) => isScan).map(({ table }) => `all ${table}`)
  const many = Object.values(owners).flatMap(({ ids, ...tables }) => {
    const given = new Map<string, Set<string>>()
    const others = accesses.flatMap(({ table, keys, isScan }) => {
      const columns = (tables as Record<string, readonly string[]>)[table]
      if (columns === undefined || isScan) return []
      const key = ['new', ...columns].find((column) => keys.has(column))
      if (key === undefined) return [`${table} by ${[...keys.keys()].join('+')}`]
      const value = keys.get(key) ?? ''
      if (value.startsWith('$')) given.set(table, (given.get(table) ?? new Set()).add(value))
      else if (!ids.test(value) && !value.startsWith('nextval')) return [`${table} by ${value}`]
      return []
    })
    const values = [...new Set([...given.values()].flatMap((names) => [...names]))].toSorted()
    return values.length > 1 ? [...others, `${[...given.keys()].join(' and ')} by ${values.join(' and ')}`] : others
  })
  return [...new Set([...scans, ...many])].toSorted()
}

/** A line for a person to review: each table with the columns by which its rows are found. */
function lineOf(name: string, accesses: readonly Access[]): string {
  const parts = accesses.map(({ table, keys, isScan, isInsert }) => {
    if (isInsert) return `new ${table}`
    // Which other columns of an index are of use depends on how much the planner knows.
    return isScan
      ? `all ${table}`
      : `${table} by ${finding.find((column) => keys.has(column)) ?? [...keys.keys()].join('+')}`
  })
  return `${name}: ${[...new Set(parts)].toSorted().join(', ')}`
}

async function statementsOf(file: string): Promise<{ name: string; statement: Compiled }[]> {
  const exported = (await import(join(process.cwd(), file))) as Record<string, unknown>
  return Object.entries(exported).flatMap(([name, value]) =>
    typeof value === 'object' && value !== null && 'text' in value ? [{ name, statement: value as Compiled }] : [],
  )
}

describe('a statement of a request', () => {
  test.each(found.filter(({ name }) => !(name in shared)))('$name is about one session and one user', async (one) => {
    expect(widthOf(await accessesOf(sql, one.statement))).toEqual(wider[one.name] ?? [])
  })

  test('finds its rows by the keys that were reviewed', async () => {
    const lines: string[] = []
    for (const { name, statement: one } of found) lines.push(lineOf(name, await accessesOf(sql, one)))
    await expect(`${lines.toSorted().join('\n')}\n`).toMatchFileSnapshot('__snapshots__/request-path.txt')
  })

  test.each(Object.entries(shared))('%s that is shared is about many, and touches what %s does', async (many, one) => {
    const together = await accessesOfNamed(many)
    expect(widthOf(together)).toEqual([`all ${listed}`])
    expect(tablesOf(together)).toEqual(tablesOf(await accessesOfNamed(one)))
  })
})

describe('what is not about one session and one user is seen:', () => {
  test.each<[string, Compiled, string[]]>([
    [
      'a scan',
      statement<{ ip: string }, { id: string }>(($) => template`select id from ${sessions} where ip = ${$.ip}`, {
        id: 'uuid',
      }),
      ['all sessions'],
    ],
    [
      'two sessions',
      statement<{ one: string; other: string }, { id: string }>(
        ($) => template`
          select a.id from ${sessions} a join ${sessions} b on b.user_id = a.user_id
          where a.id = ${$.one} and b.id = ${$.other}`,
        { id: 'uuid' },
      ),
      ['sessions by $one and $other'],
    ],
    [
      'sessions of a list',
      statement<{ ids: readonly string[] }, { id: string }>(
        ($) => template`select id from ${sessions} where id = any (${$.ids}::uuid[])`,
        { id: 'uuid' },
      ),
      ['sessions by ANY '],
    ],
    [
      'the other sessions of a user',
      statement<{ id: string }, { id: string }>(
        ($) => template`select b.id from ${sessions} a join ${sessions} b using (user_id) where a.id = ${$.id}`,
        { id: 'uuid' },
      ),
      ['sessions by user_id'],
    ],
    [
      'a second user',
      statement<{ id: number; name: string }, { id: number }>(
        ($) => template`
          select u.id from ${users} u, ${users} o
          where u.id = ${$.id} and lower(o.username collate "C") = lower(${$.name}::text collate "C")`,
        { id: 'int4' },
      ),
      ['users by $id and $name'],
    ],
    [
      'all users',
      statement<NoInput, { id: number }>(() => template`select id from ${users} where id > 0`, { id: 'int4' }),
      ['users by '],
    ],
  ])('%s', async (_, wide, reasons) => {
    expect(widthOf(await accessesOf(sql, wide))).toEqual(reasons)
  })
})

function accessesOfNamed(wanted: string): Promise<Access[]> {
  const one = found.find(({ name }) => name === wanted)
  if (!one) throw new Error(`there is no statement ${wanted}`)
  return accessesOf(sql, one.statement)
}

function tablesOf(accesses: readonly Access[]): string[] {
  const names = accesses.map(({ table, isInsert }) => (isInsert ? `new ${table}` : table))
  return [...new Set(names)].filter((name) => name !== listed).toSorted()
}

import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { sql as template } from 'drizzle-orm'
import { describe, expect, test } from 'vitest'
import { accountTypes } from '#src/features/accounts/accounts.sql.ts'
import { insertEvent } from '#src/features/audit/audit.sql.ts'
import { rotateRefreshToken } from '#src/features/sessions/rotation.sql.ts'
import { endSessionsExcept, sessionsOfUser, sessionState } from '#src/features/sessions/sessions.sql.ts'
import type { Database } from '#src/db/database.ts'
import { statementNames } from '#src/plugins/statement-names.ts'
import { type Compiled, type NoInput, statement } from '#src/db/statement.ts'
import { signedUp } from '#test/support/actors.ts'
import { cloneDatabase, startService } from '#test/support/service.ts'
import { describeStatement, faultsOfInputs, typeNames } from '#test/support/statements.ts'

interface Found {
  readonly file: string
  readonly name: string
  readonly statement: Compiled & { readonly row: Readonly<Record<string, string>> }
}

const files = globSync('src/**/*.sql.ts').toSorted()
const found = (await Promise.all(files.map(statementsOf))).flat()
const { sql } = await cloneDatabase()
const names = await typeNames(sql)
// As a trial of an import makes it, on the one connection there is.
await sql`create temporary table import_trial (like users including all)`

test('statements are exported by the *.sql.ts, where they are found', () => {
  const written = globSync('src/**/*.ts').flatMap((file) => readFileSync(file, 'utf8').match(/= statement\b/g) ?? [])
  expect(found).toHaveLength(written.length)
})

test('no two statements have the same name: traces know them by it', async () => {
  const known = await statementNames()
  expect(found.map(({ statement }) => known.get(statement))).toEqual(found.map(({ name }) => name))
  expect(new Set(found.map(({ name }) => name)).size).toBe(found.length)
})

describe('the SQL of', () => {
  test.each(found)('$name is as reviewed', ({ statement: { text } }) => {
    expect(text).toMatchSnapshot()
  })
})

describe('as PostgreSQL describes it,', () => {
  test.each(found)('$name returns the columns that it declares', async ({ statement }) => {
    const { columns } = await describeStatement(sql, statement, names)
    expect(columns).toEqual(statement.row)
  })

  test('every statement uses all fields of its input, each as what it is', async () => {
    const inputs = found.map(async (one) => ({ ...one, ...(await describeStatement(sql, one.statement, names)) }))
    expect(faultsOfInputs(await Promise.all(inputs))).toEqual([])
  })
})

describe('the compiler refuses', () => {
  test('a parameter that the input lacks, also where a part of the statement needs it', () => {
    type Id = { id: number }
    const owner = template`users`
    const mistakes = [
      // @ts-expect-error There is an `id` only.
      statement<Id, never>(($) => template`select ${$.name}`, {}),
      // @ts-expect-error An event has an origin.
      statement<Id, never>(($) => insertEvent($, { type: 'user.updated', userId: template`${$.id}` }), {}),
      // @ts-expect-error Nobody said which session to keep.
      statement<Id, never>(($) => template`with ${endSessionsExcept($, owner)} select ${$.id}`, {}),
      // @ts-expect-error A session is not known by a number.
      statement<{ keepSessionId: number }, never>(($) => endSessionsExcept($, owner), {}),
      // @ts-expect-error There is no input.
      statement<NoInput, never>(($) => template`select ${$.id}`, {}),
    ]
    expect(mistakes).toHaveLength(5)
  })

  test('a column of another type, one that the row lacks, and one too few', () => {
    type Named = { name: string | null }
    const mistakes = [
      // @ts-expect-error A name is text.
      statement<NoInput, Named>(() => template`select null as name`, { name: 'int4' }),
      // @ts-expect-error The row has no `id`.
      statement<NoInput, Named>(() => template`select null as name, 1 as id`, { name: 'text', id: 'int4' }),
      // @ts-expect-error The row has a name.
      statement<NoInput, Named>(() => template`select null as name`, {}),
      // @ts-expect-error Nothing is returned.
      statement<NoInput, never>(() => template`select 1 as id`, { id: 'int4' }),
      // @ts-expect-error A moment is read as a date.
      statement<NoInput, { createdAt: string }>(() => template`select now() as "createdAt"`, accountTypes),
    ]
    expect(mistakes).toHaveLength(5)
  })

  test('an input without a field', () => {
    const mistake = (db: Database) =>
      // @ts-expect-error Whose sessions?
      db.rows(sessionsOfUser, {})
    expect(mistake).toBeInstanceOf(Function)
  })
})

describe('the happy path', () => {
  test('of a refresh is one statement, of an authenticated request one query', async () => {
    const { app } = await startService()
    const { refresh, me } = await signedUp(app)
    const statements = await watched(app.core.db, async () => {
      await refresh()
      await me()
    })
    expect(statements).toEqual([rotateRefreshToken.text, sessionState.text])
  })
})

async function statementsOf(file: string): Promise<Found[]> {
  const exported = Object.entries((await import(join(process.cwd(), file))) as Record<string, unknown>)
  const isStatement = (value: unknown): value is Found['statement'] =>
    typeof value === 'object' && value !== null && 'text' in value && 'row' in value
  return exported.flatMap(([name, value]) => (isStatement(value) ? [{ file, name, statement: value }] : []))
}

/** The statements that really went out while `act` ran. */
async function watched(db: object, act: () => Promise<void>): Promise<string[]> {
  const sent: string[] = []
  const original = Reflect.get(db, 'rows') as (statement: { text: string }, ...rest: unknown[]) => unknown
  Reflect.set(db, 'rows', (statement: { text: string }, ...rest: unknown[]) => {
    sent.push(statement.text)
    return original.call(db, statement, ...rest)
  })
  await act()
  Reflect.deleteProperty(db, 'rows')
  return sent
}

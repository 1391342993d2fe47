import { queryObjects } from 'node:v8'
import { sql as template } from 'drizzle-orm'
import { describe, expect, test } from 'vitest'
import { Database } from '#src/db/database.ts'
import { type NoInput, statement } from '#src/db/statement.ts'
import { cleanUp } from '#test/support/clean-up.ts'
import { cloneDatabase } from '#test/support/service.ts'

const { url, sql } = await cloneDatabase()
const db = new Database(url, 2)
cleanUp(() => db.close(0))

describe('an array', () => {
  const words = ['', 'null', 'NULL', 'a b', 'a,b', '{a}', 'say "no"', 'C:\\temp\\', '\\"', "it's", 'Zürich\n']
  const echo = statement<{ words: (string | null)[] }, { words: string[]; count: number }>(
    ($) => template`select ${$.words}::text[] as words, cardinality(${$.words}::text[]) as count`,
    { words: 'text[]', count: 'int4' },
  )

  test('of any words goes to the database and comes back as it was', async () => {
    expect(await db.row(echo, { words })).toEqual({ words, count: words.length })
    expect(await db.row(echo, { words: [] })).toEqual({ words: [], count: 0 })
    expect(await db.row(echo, { words: ['a', null] })).toEqual({ words: ['a', null], count: 2 })
  })

  test('of numbers, too', async () => {
    const numbers = statement<{ numbers: number[] }, { sum: number }>(
      ($) => template`select sum(n)::integer as sum from unnest(${$.numbers}::integer[]) n`,
      { sum: 'int4' },
    )
    expect(await db.row(numbers, { numbers: [1, -2, 40] })).toEqual({ sum: 39 })
  })
})

describe('a statement whose plan the server has lost or changed', () => {
  const look = statement<{ key: Buffer; isOn: boolean; names: string[] }, { found: boolean }>(
    ($) => template`select true as found, plans.* from plans
      where key = ${$.key} and is_on = ${$.isOn}
        and name = any(${$.names}::text[])`,
    { found: 'bool' },
  )
  const input = { key: Buffer.from('c0ffee', 'hex'), isOn: true, names: ['one', 'two'] }

  test.each(['alter table plans add column more integer', 'deallocate all'])(
    'by "%s" is sent again with the same parameters',
    async (change) => {
      const own = new Database(url, 1)
      cleanUp(() => own.close(0))
      await sql.unsafe(`drop table if exists plans; create table plans (key bytea, is_on boolean, name text);
        insert into plans values ('\\xc0ffee', true, 'two')`)
      expect(await own.row(look, input)).toMatchObject({ found: true })
      await own.rows(
        statement<NoInput, unknown>(() => template.raw(change), {}),
        {},
      )
      expect(await own.row(look, input)).toMatchObject({ found: true })
    },
  )
})

describe('a statement that fails', () => {
  test('leaves nothing behind in the driver, however often', async () => {
    const failing = statement<{ divisor: number }, unknown>(($) => template`select 1 / ${$.divisor}::integer`, {})
    const fail = async (times: number) => {
      for (let i = 0; i < times; i++) await db.rows(failing, { divisor: 0 }).catch(() => {})
    }
    await fail(100)
    const before = queryObjects(Array, { format: 'count' })
    await fail(1000)
    expect(queryObjects(Array, { format: 'count' }) - before).toBeLessThan(500)
  })

  test('because a parameter is missing is a mistake of ours, not a fault of the database', async () => {
    const echo = statement<{ word: string }, unknown>(($) => template`select ${$.word}::text as word`, {})
    const error: unknown = await db.rows(echo, {} as { word: string }).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(TypeError)
    expect(String(error)).toContain('the parameter word of a statement is missing')
  })
})

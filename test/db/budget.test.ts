import { sql as template } from 'drizzle-orm'
import { describe, expect, test } from 'vitest'
import { Budget } from '#src/db/budget.ts'
import { Database } from '#src/db/database.ts'
import { type NoInput, statement } from '#src/db/statement.ts'
import { Problem } from '#src/problem.ts'
import { signedUp } from '#test/support/actors.ts'
import { cleanUp } from '#test/support/clean-up.ts'
import { cloneDatabase, startService } from '#test/support/service.ts'

const { url, sql } = await cloneDatabase()
const db = new Database(url, 2)
cleanUp(() => db.close(0))
await sql`create table notes (text text)`

const wait = statement<{ seconds: number }, unknown>(
  ($) => template`select pg_sleep(${$.seconds}::float)`,
  {},
  { repeatable: true },
)
const write = statement<{ seconds: number }, unknown>(
  ($) => template`
  with note as (insert into notes values ('written') returning text) select pg_sleep(${$.seconds}::float) from note`,
  {},
)
const notes = async () => (await sql`select from notes`).length
const causeOf = (error: unknown) => (error instanceof Problem ? [error.code, error.cause] : error)
const inRequest = <T>(task: (budget: Budget) => Promise<T>) => {
  const budget = new Budget()
  return budget.run(() => task(budget))
}
await Promise.all([1, 2].map(() => db.rows(wait, { seconds: 0.1 })))

describe('the budget of a request', () => {
  test('is one for all its statements: one that does not fit is cancelled, and undone', async () => {
    const outcome = await inRequest(async () => {
      await db.rows(wait, { seconds: 1.5 })
      await db.rows(wait, { seconds: 0.2 })
      return db.rows(wait, { seconds: 1.7 }).catch(causeOf)
    })
    expect(outcome).toEqual(['unavailable', 'database: 57014'])
    const written = await new Budget(1400).run(async () => {
      await db.rows(wait, { seconds: 0.3 })
      await db.rows(wait, { seconds: 0.3 })
      return db.rows(write, { seconds: 1.78 }).catch(causeOf)
    })
    expect([written, await notes()]).toEqual([['unavailable', 'database: 57014'], 0])
  })

  test('that is used up begins nothing', async () => {
    const outcome = await inRequest(async () => {
      for (const seconds of [0.9, 0.9, 5]) await db.rows(wait, { seconds }).catch(() => {})
      return db.rows(write, { seconds: 0 }).catch(causeOf)
    })
    expect([outcome, await notes()]).toEqual([['unavailable', 'database: BUDGET_SPENT'], 0])
  })

  test('holds for the second try of a statement, too', async () => {
    await sql.unsafe(`
      drop sequence if exists tries;
      create sequence tries;
      create or replace function deadlock() returns void language plpgsql as $$
      begin
        if nextval('tries') = 1 then
          perform pg_sleep(0.5);
          raise exception sqlstate '40P01';
        end if;
        perform pg_sleep(1.75);
      end $$`)
    const deadlock = statement<NoInput, unknown>(() => template`select deadlock()`, {})
    const outcome = await new Budget(1000).run(() => db.rows(deadlock, {}).catch(causeOf))
    expect(outcome).toEqual(['unavailable', 'database: 57014'])
    expect(await sql`select last_value::integer as tries from tries`).toEqual([{ tries: 2 }])
  })

  test('ends with its answer: what it set going has none', async () => {
    const late = await inRequest(async (budget) => {
      await db.rows(wait, { seconds: 1.7 })
      budget.lift()
      return db.rows(wait, { seconds: 1.2 })
    })
    expect(late).toHaveLength(1)
  })

  test.each(['GET', 'POST'])(
    'is there for a %s, also after its body, and is lifted when it has been answered',
    async (method) => {
      const { app } = await startService({}, { url, sql })
      const { me, refresh } = await signedUp(app)
      const seen: (Budget | undefined)[] = []
      const rows = app.db.rows.bind(app.db)
      app.db.rows = (...args) => {
        seen.push(Budget.current)
        return rows(...args)
      }
      await (method === 'GET' ? me() : refresh())
      // What works in the background has none.
      const [budget, ...others] = new Set(seen.filter((each) => each !== undefined))
      expect([budget, others]).toEqual([expect.any(Budget), []])
      if (method === 'POST') expect(budget?.left).toBe(Infinity)
    },
  )
})

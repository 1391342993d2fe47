import { sql as template } from 'drizzle-orm'
import { beforeEach, describe, expect, test } from 'vitest'
import { changeUser, removeUser } from '#src/features/accounts/administration.ts'
import { deleteAccount } from '#src/features/accounts/accounts.ts'
import type { Core } from '#src/features/core.ts'
import { type NoInput, statement } from '#src/db/statement.ts'
import type { Account } from '#src/features/accounts/accounts.sql.ts'
import { Problem } from '#src/problem.ts'
import { password, signedUp } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

// Two pools, as of two instances.
const first = await startService({ CONTRACTS: 'kanban' })
const second = await startService({ CONTRACTS: 'kanban' }, first)
const { sql } = first
const cores = [first.app.core, second.app.core] as const
const shell = { actorId: null, ip: null, userAgent: null, requestId: null }

const one = await signedUp(first.app)
const two = await signedUp(first.app)
const [{ password_hash: hash } = {}] = await sql`select password_hash from users where id = ${one.userId}`

const demote = (core: Core, id: number) => changeUser(core, id, { roles: ['user'] }, shell)
const revoke = (core: Core, id: number) => changeUser(core, id, { revoke: 'admin' }, shell)
const disable = (core: Core, id: number) => changeUser(core, id, { isActive: false }, shell)
const remove = (core: Core, id: number) => removeUser(core, id, shell)
const leave = (core: Core, id: number) => deleteAccount(core, { id } as Account, password, shell)
const acts = { demote, revoke, disable, remove, leave }

/** Puts the two back, whatever became of them, as the only administrators. */
async function twoAdmins(): Promise<void> {
  await sql`update users set roles = '{user}'`
  await sql`
    insert into users (id, email, password_hash, roles) overriding system value
    values (${one.userId}, ${one.email}, ${hash}, '{user,admin}'), (${two.userId}, ${two.email}, ${hash}, '{user,admin}')
    on conflict (id) do update
    set roles = excluded.roles, is_active = true, deleted_at = null, email = excluded.email, password_hash = ${hash}`
}

async function adminsLeft(): Promise<number> {
  const rows = await sql`select from users where 'admin' = any(roles) and is_active`
  return rows.length
}

beforeEach(twoAdmins)

describe('the last active administrator', () => {
  test.each(Object.entries(acts))('stays: %s', async (_name, act) => {
    await act(cores[0], one.userId)
    await expect(act(cores[0], two.userId)).rejects.toMatchObject({ code: 'last_admin' })
    expect(await adminsLeft()).toBe(1)
  })

  test('can be changed otherwise', async () => {
    await disable(cores[0], one.userId)
    const change = { fullName: 'Ada', roles: ['admin'], isActive: true }
    expect(await changeUser(cores[0], two.userId, change, shell)).toMatchObject({ roles: ['admin'] })
  })

  test('does not keep others from being disabled or removed', async () => {
    const other = await signedUp(first.app)
    await disable(cores[0], one.userId)
    await disable(cores[0], other.userId)
    await remove(cores[0], other.userId)
    await remove(cores[0], one.userId)
    expect(await adminsLeft()).toBe(1)
  })
})

describe('two administrators who act on each other at once', () => {
  const pairs = Object.entries(acts).flatMap(([a, x], i) =>
    Object.entries(acts)
      .slice(i)
      .map(([b, y]) => ({ a, b, x, y, rounds: x === leave || y === leave ? 20 : 100 })),
  )
  test.each(pairs)('$a and $b: one of them is left, $rounds times', async ({ x, y, rounds }) => {
    for (let round = 0; round < rounds; round++) {
      await twoAdmins()
      const results = await Promise.allSettled([x(cores[0], two.userId), y(cores[1], one.userId)])
      expect(await adminsLeft()).toBe(1)
      const [refused, ...more] = results.filter(({ status }) => status === 'rejected')
      expect(more).toEqual([])
      expect((refused as PromiseRejectedResult).reason).toBeInstanceOf(Problem)
      expect((refused as PromiseRejectedResult).reason).toMatchObject({ code: 'last_admin' })
    }
  })

  test('who is made an administrator while the statement waits is seen by it', async () => {
    // The rule is tried with the target promoted, and the other demoted, between the snapshot and the lock.
    await sql`update users set roles = '{user}' where id = ${two.userId}`
    const gate = await sql.reserve()
    await gate.unsafe(`begin; select from users where id = ${one.userId} for update`)
    const refused = expect(disable(cores[0], two.userId)).rejects.toMatchObject({ code: 'last_admin' })
    await untilWaiting()
    await gate.unsafe(`update users set roles = '{user,admin}' where id = ${two.userId};
      update users set roles = '{user}' where id = ${one.userId}; commit`)
    gate.release()
    await refused
    expect(await adminsLeft()).toBe(1)
  })
})

describe('granting roles at once', () => {
  test('keeps them all', async () => {
    const names = Array.from({ length: 10 }, (_, i) => `role${i}`)
    await Promise.all(names.map((grant, i) => changeUser(cores[i % 2 === 0 ? 0 : 1], one.userId, { grant }, shell)))
    const [{ roles } = {}] = await sql`select array_to_string(roles, ',') as roles from users where id = ${one.userId}`
    expect(String(roles).split(',').toSorted()).toEqual(['admin', ...names, 'user'].toSorted())
  })
})

const waiting = statement<NoInput, unknown>(
  () => template`select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`,
  {},
  { repeatable: true },
)

/** The statement under test stands at the lock. */
async function untilWaiting(): Promise<void> {
  for (;;) {
    const rows = await second.app.db.rows(waiting, {})
    if (rows.length > 0) return
  }
}

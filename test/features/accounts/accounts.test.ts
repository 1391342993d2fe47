import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { changeProfile, deleteAccount, register, replacePassword } from '#src/features/accounts/accounts.ts'
import { authenticate } from '#src/features/sessions/authenticate.ts'
import { sweep } from '#src/features/sessions/sweep.ts'
import { accountById } from '#src/features/accounts/administration.sql.ts'
import { password, signedUp } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const { app, sql } = await startService()
const { core } = app
const origin = { ip: '192.0.2.1', userAgent: 'Test/1.0', requestId: null }
const newPerson = (fields: { username?: string; fullName?: string; password?: string; roles?: string[] } = {}) => ({
  email: `${randomUUID()}@example.com`,
  username: null,
  fullName: null,
  password,
  ...fields,
})
const eventsOf = async (userId: number) =>
  (await sql`select type from audit_events where user_id = ${userId} order by id`).map(({ type }) => type as string)

describe('a registration', () => {
  test('makes a user with the role user, whose address is not verified, and one event', async () => {
    const person = newPerson({ username: 'reg.one', fullName: 'Reg One' })
    const account = await register(core, person, origin)
    const { password: _, ...visible } = person
    expect(account).toMatchObject({ ...visible, roles: ['user'], isActive: true, emailVerifiedAt: null })
    expect(account).not.toHaveProperty('passwordHash')
    expect(await eventsOf(account.id)).toEqual(['user.registered'])
  })

  test('that is refused makes nothing and leaves nothing', async () => {
    const count = async () => (await sql`select count(*) from audit_events`)[0]?.['count'] as string
    const before = await count()
    const first = await register(core, newPerson({ username: 'reg.two' }), origin)
    await expect(register(core, newPerson({ username: 'REG.TWO' }), origin)).rejects.toThrow('username_taken')
    await expect(register(core, { ...newPerson(), email: first.email }, origin)).rejects.toThrow('email_taken')
    await expect(register(core, newPerson({ password: 'password' }), origin)).rejects.toThrow('password_unsuitable')
    expect(Number(await count()) - Number(before)).toBe(1)
  })

  test('of the same username ten times at once makes one account', async () => {
    const username = randomUUID()
    const results = await Promise.allSettled(
      Array.from({ length: 10 }, () => register(core, newPerson({ username }), origin)),
    )
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
  })
})

describe('a change of the profile', () => {
  test('changes the fields that are given and no others', async () => {
    const { id } = await register(core, newPerson({ username: 'profile.one', fullName: 'One' }), origin)
    expect(await changeProfile(core, id, { fullName: 'Two' }, origin)).toMatchObject({ username: 'profile.one' })
    expect(await changeProfile(core, id, { username: 'profile.two' }, origin)).toMatchObject({ fullName: 'Two' })
    expect(await changeProfile(core, id, { fullName: null }, origin)).toMatchObject({
      fullName: null,
      username: 'profile.two',
    })
    expect(await eventsOf(id)).toEqual(['user.registered', 'user.updated', 'user.updated', 'user.updated'])
  })

  test('of an account that is gone meanwhile says that the session has ended', async () => {
    await expect(changeProfile(core, 2_000_000_000, { fullName: 'X' }, origin)).rejects.toThrow('session_revoked')
  })
})

describe('a change of the password', () => {
  const changeOf = (newPassword: string) => ({ currentPassword: password, newPassword })

  test('succeeds once when five happen at once, and that one password is it', async () => {
    const { tokens, email } = await signedUp(app)
    const who = await authenticate(core, tokens.access_token)
    const candidates = Array.from({ length: 5 }, (_, i) => `battery staple number ${i}`)
    const results = await Promise.allSettled(
      candidates.map((candidate) => replacePassword(core, who, changeOf(candidate), origin)),
    )
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    const works = await Promise.all(
      [password, ...candidates].map(
        async (text) =>
          (await app.inject({ method: 'POST', url: '/api/v1/token', payload: { username: email, password: text } }))
            .statusCode === 200,
      ),
    )
    expect(works).toEqual([false, ...results.map(({ status }) => status === 'fulfilled')])
  })

  test('that is refused changes nothing and ends nothing', async () => {
    const { tokens, userId, logIn, me } = await signedUp(app)
    const other = (await logIn()).json<{ access_token: string }>()
    const who = await authenticate(core, tokens.access_token)
    const wrong = { currentPassword: 'not the password', newPassword: 'another battery' }
    await expect(replacePassword(core, who, wrong, origin)).rejects.toThrow('password_incorrect')
    await expect(replacePassword(core, who, changeOf('12345678'), origin)).rejects.toThrow('password_unsuitable')
    expect((await me(other.access_token)).statusCode).toBe(200)
    expect((await logIn()).statusCode).toBe(200)
    expect(await eventsOf(userId)).not.toContain('password.changed')
  })

  test("refuses the user's own name and address", async () => {
    const { tokens, email } = await signedUp(app, { username: 'heather.bell', full_name: 'Heather Bell' })
    const who = await authenticate(core, tokens.access_token)
    for (const own of [email, 'heather.bell', 'HeatherBell1'])
      await expect(replacePassword(core, who, changeOf(own), origin)).rejects.toThrow('password_unsuitable')
  })
})

describe('the deletion of an account', () => {
  test('takes sessions, tokens and events along, and leaves one event that says so', async () => {
    const { tokens, userId, refresh } = await signedUp(app)
    await refresh()
    const { account } = await authenticate(core, tokens.access_token)
    await deleteAccount(core, account, password, origin)
    expect(await core.db.rows(accountById, { id: userId })).toEqual([])
    await sweep(core, { days: 7, auditDays: 365 })
    const [left] = await sql`
      select (select count(*)::integer from users where id = ${userId}) as users,
        (select count(*)::integer from sessions where user_id = ${userId}) as sessions`
    expect(left).toEqual({ users: 0, sessions: 0 })
    const [orphans] = await sql`
      select count(*)::integer as count from refresh_tokens t where not exists (select from sessions s where s.id = t.session_id)`
    expect(orphans).toEqual({ count: 0 })
    expect(await eventsOf(userId)).toEqual(['user.deleted'])
  })

  test('at the same moment as a refresh leaves nothing that works', async () => {
    for (let round = 0; round < 10; round++) {
      const { send, refresh, me } = await signedUp(app)
      const [refreshed] = await Promise.all([refresh(), send('DELETE', '/me', { password })])
      expect(refreshed.statusCode).toBeOneOf([200, 401])
      expect((await me()).statusCode).toBe(401)
      expect((await refresh()).statusCode).toBe(401)
    }
  })
})

import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { changeUser } from '#src/features/accounts/administration.ts'
import { register } from '#src/features/accounts/accounts.ts'
import { eventDetails } from '#src/features/audit/event-types.ts'
import { get, password, post, signedUp } from '#test/support/actors.ts'
import { runAdmin } from '#test/support/admin.ts'
import { startService } from '#test/support/service.ts'
import { temporaryFolder } from '#test/support/process.ts'

const { app, sql, url } = await startService({ MAIL_WORKER: 'off' })
const shell = { actorId: null, ip: null, userAgent: 'admin command', requestId: null }

const eventsOf = (userId: number | null, type: string) =>
  sql`select actor_id, detail from audit_events where user_id is not distinct from ${userId} and type = ${type} order by id`
async function administrator() {
  const actor = await signedUp(app)
  await sql`update users set roles = '{user,admin}' where id = ${actor.userId}`
  return actor
}

describe('docs/audit.md', () => {
  test('lists every event of the catalogue with what its detail holds', () => {
    const text = readFileSync(new URL('../../../docs/audit.md', import.meta.url), 'utf8')
    const documented = text
      .split('\n')
      .filter((line) => /^\| `[a-z_]+\.[a-z_]+` \|/.test(line))
      .map((line) => line.slice(2, -2).split(' | '))
      .map(([type = '', , , detail = '']) => [
        type.slice(1, -1),
        [...detail.matchAll(/`(\w+)`/g)].map(([, name]) => name),
      ])
    expect(Object.fromEntries(documented)).toEqual(eventDetails)
    expect(documented).toHaveLength(Object.keys(eventDetails).length)
  })
})

describe('the catalogue of events', () => {
  test('holds what the source records, and nothing else', () => {
    const root = new URL('../../../src/', import.meta.url)
    const source = readdirSync(root, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts') && !name.endsWith('.events.ts'))
      .map((name) => readFileSync(new URL(name, root), 'utf8'))
      .join('\n')
    for (const type of Object.keys(eventDetails))
      expect(`${type} ${source.includes(`'${type}'`) || source.includes(`\`${type.split('.')[0]}.$`)}`).toBe(
        `${type} true`,
      )
    // The table is written by `recorded` and its like in one file.
    expect(source.match(/insert into \$\{auditEvents\}/g)).toHaveLength(1)
  })

  test('is what the API may tell of a detail', async () => {
    interface Schema {
      properties: Record<string, Schema>
      items: Schema
    }
    const { components } = (await get(app, '/openapi.json')).json<{ components: { schemas: Record<string, Schema> } }>()
    const event = components.schemas['AuditEventPage']?.properties['items']?.items
    const told = Object.keys(event?.properties['detail']?.properties ?? {})
    expect(told.toSorted()).toEqual([...new Set(Object.values(eventDetails).flat())].toSorted())
  })
})

describe('an event', () => {
  test('names who did it, and nobody for a failed login', async () => {
    const { email, userId, send } = await signedUp(app)
    await post(app, '/api/v1/token', { username: email, password: 'wrong password' })
    await send('PATCH', '/me', { full_name: 'Ada' })
    await send('POST', '/me/email', { email: `new-${email}`, password })
    await post(app, '/api/v1/forgot-password', { email })
    await sql`update users set is_active = false where id = ${userId}`
    await post(app, '/api/v1/token', { username: email, password })
    const events = await sql`select type, actor_id from audit_events where user_id = ${userId} order by id`
    expect(events.map(({ type, actor_id }) => [type, actor_id])).toEqual([
      ['user.registered', userId],
      ['login.succeeded', userId],
      ['login.failed', null],
      ['user.updated', userId],
      ['email.change_requested', userId],
      ['password.reset_requested', null],
      ['login.disabled', null],
    ])
  })

  test('tells an administrator that an operator made from a registration', async () => {
    const registration = { email: `${randomUUID()}@example.com`, username: null, fullName: null, password }
    const { id } = await register(app.core, { ...registration, roles: ['user', 'admin'] }, shell)
    expect(await eventsOf(id, 'user.created')).toEqual([
      { actor_id: null, detail: { roles: { from: [], to: ['user', 'admin'] } } },
    ])
    expect(await eventsOf(id, 'user.registered')).toEqual([])
    const { userId } = await signedUp(app)
    expect(await eventsOf(userId, 'user.created')).toEqual([])
  })

  test('of a change by an administrator has the roles before and after, and whether the user is active', async () => {
    const [admin, { userId }] = [await administrator(), await signedUp(app)]
    await admin.send('PATCH', `/users/${userId}`, { roles: ['editor'], full_name: 'Ada' })
    await admin.send('PATCH', `/users/${userId}`, { is_active: false })
    await changeUser(app.core, userId, { grant: 'user' }, shell)
    expect(await eventsOf(userId, 'user.updated')).toEqual([
      {
        actor_id: admin.userId,
        detail: { fields: ['full_name', 'roles'], roles: { from: ['user'], to: ['editor'] } },
      },
      { actor_id: admin.userId, detail: { fields: ['is_active'], is_active: false } },
      { actor_id: null, detail: { fields: ['roles'], roles: { from: ['editor'], to: ['editor', 'user'] } } },
    ])
    const trail = await admin.send('GET', `/users/${userId}/events`)
    expect(trail.json<{ items: object[] }>().items[0]).toMatchObject({
      detail: { fields: ['roles'], roles: { from: ['editor'], to: ['editor', 'user'] } },
    })
  })

  test('of a change of one’s own has the fields that changed; there is none when nothing did', async () => {
    const { userId, send } = await signedUp(app, { full_name: 'Ada', username: `u${randomUUID()}` })
    const { username } = (await send('GET', '/me')).json<{ username: string }>()
    expect((await send('PATCH', '/me', { full_name: 'Ada', username })).json()).toMatchObject({ full_name: 'Ada' })
    expect(await eventsOf(userId, 'user.updated')).toEqual([])
    await send('PATCH', '/me', { full_name: null, username })
    await send('PATCH', '/me', { username: `${username}x`, full_name: 'Lady Ada' })
    expect(await eventsOf(userId, 'user.updated')).toEqual([
      { actor_id: userId, detail: { fields: ['full_name'] } },
      { actor_id: userId, detail: { fields: ['full_name', 'username'] } },
    ])
  })

  test('is left by a wrong current password', async () => {
    const { userId, send } = await signedUp(app)
    const wrong = 'wrong password'
    await send('POST', '/me/password', { current_password: wrong, new_password: 'another battery' })
    await send('POST', '/me/email', { email: `${randomUUID()}@example.com`, password: wrong })
    await send('DELETE', '/me', { password: wrong })
    expect(await eventsOf(userId, 'password.incorrect')).toEqual(
      Array.from({ length: 3 }, () => ({ actor_id: userId, detail: null })),
    )
  })

  test('is left by an act of administration that is refused', async () => {
    await sql`update users set roles = '{user}'`
    const [admin, user] = [await administrator(), await signedUp(app)]
    await user.send('PATCH', `/users/${admin.userId}`, { roles: [] })
    expect(await eventsOf(user.userId, 'administration.refused')).toEqual([
      { actor_id: user.userId, detail: { code: 'insufficient_scope', action: 'PATCH /api/v1/users/:id' } },
    ])
    await admin.send('PATCH', `/users/${admin.userId}`, { roles: ['user'] })
    await admin.send('DELETE', `/users/${admin.userId}`)
    await admin.send('DELETE', '/me', { password })
    await changeUser(app.core, admin.userId, { revoke: 'admin' }, shell).catch(() => {})
    expect(await eventsOf(admin.userId, 'administration.refused')).toEqual(
      [admin.userId, admin.userId, admin.userId, null].map((actor_id) => ({
        actor_id,
        detail: { code: 'last_admin' },
      })),
    )
  })

  test('is left by a link that is refused', async () => {
    const token = `lko_${'A'.repeat(43)}`
    const count = async (type: string) => (await eventsOf(null, type)).length
    expect([await count('password.reset_failed'), await count('email.verification_failed')]).toEqual([0, 0])
    await post(app, '/api/v1/reset-password', { token, new_password: 'another battery' })
    await post(app, '/api/v1/verify-email', { token })
    await post(app, '/api/v1/verify-email', { token: 'no token at all' })
    expect([await count('password.reset_failed'), await count('email.verification_failed')]).toEqual([1, 2])
  })

  test('of a mail that was given up is told with its detail', async () => {
    const [admin, { userId }] = [await administrator(), await signedUp(app)]
    const detail = { template: 'email-verify', error: 'SMTP_550' }
    await sql`insert into audit_events (type, user_id, detail) values ('mail.abandoned', ${userId}, ${sql.json(detail)})`
    const trail = await admin.send('GET', `/users/${userId}/events`)
    expect(trail.json<{ items: object[] }>().items[0]).toMatchObject({ type: 'mail.abandoned', detail })
  })

  test('is left by an export and by a new signing key', async () => {
    const environment = { ALGORITHM: 'ES256' }
    expect(await runAdmin(url, ['export', `${await temporaryFolder()}/users.jsonl`])).toMatchObject({ code: 0 })
    expect(await runAdmin(url, ['keys', 'rotate', '--now'], '', environment)).toMatchObject({ code: 0 })
    expect(await eventsOf(null, 'users.exported')).toEqual([{ actor_id: null, detail: null }])
    expect(await eventsOf(null, 'signing_key.rotated')).toHaveLength(1)
    const [{ user_agent } = {}] = await sql`select user_agent from audit_events where type = 'users.exported'`
    expect(user_agent).toBe('admin command')
  })
})

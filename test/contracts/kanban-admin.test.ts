import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { type Actor, metric, signedUp } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const { app, sql } = await startService()

interface UserBody {
  id: number
  email: string
  roles: string[]
  is_active: boolean
  email_verified: boolean
}
interface EventBody {
  type: string
  actor_id: number | null
  detail: { fields?: string[]; reason?: string } | null
}
type Page<T> = { items: T[]; next_cursor: string | null }

const codeOf = (reply: { json: () => unknown }) => (reply.json() as { code: string }).code
const give = (actor: Actor, roles: string[]) =>
  sql`update users set roles = ${`{${roles.join(',')}}`}::text[] where id = ${actor.userId}`

async function administrator(): Promise<Actor> {
  const actor = await signedUp(app)
  await give(actor, ['user', 'admin'])
  return actor
}
const admin = await administrator()

describe('every route of the administration', () => {
  const routes: ['GET' | 'POST' | 'PATCH' | 'DELETE', string, object | undefined][] = [
    ['GET', '/users', undefined],
    ['GET', '/users/1', undefined],
    ['PATCH', '/users/1', { full_name: 'x' }],
    ['DELETE', '/users/1', undefined],
    ['POST', '/users/1/logout', undefined],
    ['GET', '/users/1/events', undefined],
  ]
  test.each(routes)('refuses a user without the role, and nobody (%s %s)', async (method, path, body) => {
    const { send } = await signedUp(app)
    const refused = await send(method, path, body)
    expect([refused.statusCode, codeOf(refused)]).toEqual([403, 'insufficient_scope'])
    expect(refused.headers['www-authenticate']).toContain('error="insufficient_scope"')
    const reply = await app.inject({ method, url: `/api/v1${path}`, ...(body ? { payload: body } : {}) })
    expect(reply.statusCode).toBe(401)
  })

  test('takes the roles from the database at each request', async () => {
    const actor = await administrator()
    expect((await actor.send('GET', '/users')).statusCode).toBe(200)
    await give(actor, ['user'])
    expect((await actor.send('GET', '/users')).statusCode).toBe(403)
  })

  test('answers an id that nobody has with 404 and one that is none with 400', async () => {
    for (const [method, path, body] of routes.slice(1)) {
      for (const id of ['999999', '2147483647', '2147483648', '9999999999'])
        expect((await admin.send(method, path.replace('1', id), body)).statusCode).toBe(404)
      for (const id of ['0', '-1', 'me', '01', '1.5', '99999999999', '%00'])
        expect((await admin.send(method, path.replace('1', id), body)).statusCode).toBe(400)
    }
  })
})

describe('GET /users', () => {
  const mark = randomUUID().slice(0, 8)
  const list = async (query: string) => (await admin.send('GET', `/users?${query}`)).json<Page<UserBody>>()

  test('goes through all users in pages, each once, in the order of their ids', async () => {
    const made = []
    for (let i = 0; i < 5; i++) made.push((await signedUp(app, { full_name: `Paged ${mark}` })).userId)
    const seen: number[] = []
    let cursor = ''
    do {
      const page = await list(`q=paged%20${mark.toUpperCase()}&limit=2${cursor && `&cursor=${cursor}`}`)
      seen.push(...page.items.map(({ id }) => id))
      cursor = page.next_cursor ?? ''
    } while (cursor !== '')
    expect(seen).toEqual(made)
  })

  test('finds a part of the address, the username or the name, literally', async () => {
    const ada = await signedUp(app, { username: `a_da.${mark}`, full_name: `100% \\ ${mark}` })
    await signedUp(app, { username: `axda.${mark}`, full_name: `1000 ${mark}` })
    for (const q of [ada.email.slice(3, 20).toUpperCase(), `A_DA.${mark}`, `0% \\ ${mark}`]) {
      const { items } = await list(`q=${encodeURIComponent(q)}`)
      expect(items.map(({ id }) => id)).toEqual([ada.userId])
    }
  })

  test('filters by role and by state', async () => {
    const actor = await signedUp(app, { full_name: `Filtered ${mark}` })
    await give(actor, ['user', 'auditor'])
    const found = async (query: string) => (await list(`q=Filtered%20${mark}&${query}`)).items.length
    expect(await found('role=auditor&is_active=true')).toBe(1)
    expect([await found('role=admin'), await found('is_active=false')]).toEqual([0, 0])
  })

  test.each([
    'limit=0',
    'limit=201',
    'limit=1e2',
    'limit=-1',
    'is_active=1',
    'role=%00',
    'role=A',
    'q=%00',
    'q=',
    'q=a&q=b',
    'cursor=x',
    'cursor=',
    'cursor=ZToxMA',
    `cursor=${Buffer.from('u:99999999999').toString('base64url')}`,
    `cursor=${Buffer.from('u:1').toString('base64url')}=`,
  ])('refuses %s', async (query) => {
    expect((await admin.send('GET', `/users?${query}`)).statusCode).toBe(400)
  })

  test.each(['x', 'ZTpOYU4', 'dTox'])('refuses the cursor %s in the list of events', async (cursor) => {
    expect((await admin.send('GET', `/users/1/events?cursor=${cursor}`)).statusCode).toBe(400)
  })

  test('shows no hash', async () => {
    expect((await admin.send('GET', '/users')).body).not.toContain('argon2')
  })
})

describe('PATCH /users/{id}', () => {
  const change = async (actor: Actor, body: object) => admin.send('PATCH', `/users/${actor.userId}`, body)
  const events = async ({ userId }: Actor) =>
    (await admin.send('GET', `/users/${userId}/events`)).json<Page<EventBody>>().items

  test('changes every field, records who changed which and not to what', async () => {
    const actor = await signedUp(app)
    const body = { full_name: 'Ada L', username: `u${actor.userId}`, email: `new-${actor.email}`, roles: ['editor'] }
    const reply = await change(actor, body)
    expect(reply.json()).toMatchObject({ ...body, id: actor.userId, is_active: true, email_verified: false })
    const [event] = await events(actor)
    expect(event).toMatchObject({
      type: 'user.updated',
      actor_id: admin.userId,
      detail: { fields: ['full_name', 'username', 'email', 'roles'] },
    })
    expect(JSON.stringify(event)).not.toContain(actor.email)
  })

  test('records nothing when nothing changes', async () => {
    const actor = await signedUp(app)
    const before = await events(actor)
    expect((await change(actor, { email: actor.email, roles: ['user'], is_active: true })).statusCode).toBe(200)
    expect(await events(actor)).toEqual(before)
  })

  test('asks for a new address to be confirmed and tells the old one, but not for other letters of the same one', async () => {
    const actor = await signedUp(app)
    await sql`update users set email_verified_at = now() where id = ${actor.userId}`
    await sql`insert into one_time_tokens (user_id, purpose, digest, email, expires_at)
      values (${actor.userId}, 'password_reset', ${Buffer.from(actor.email)}, ${actor.email}, now() + interval '1 hour')`
    expect((await change(actor, { email: actor.email.toUpperCase() })).json<UserBody>().email_verified).toBe(true)
    expect((await change(actor, { email: `x${actor.email}` })).json<UserBody>().email_verified).toBe(false)
    expect(await sql`select purpose, email from one_time_tokens where user_id = ${actor.userId}`).toEqual([
      { purpose: 'email_verify', email: `x${actor.email}` },
    ])
    expect(
      await sql`select recipient from outbox where user_id = ${actor.userId} and template = 'email-changed'`,
    ).toEqual([{ recipient: actor.email.toUpperCase() }])
  })

  test('that disables ends every session, and enabling brings none back', async () => {
    const actor = await signedUp(app)
    const before = await metric(app, 'auth_sessions_revoked_total{reason="disabled"}')
    expect((await change(actor, { is_active: false })).json<UserBody>().is_active).toBe(false)
    expect((await actor.me()).statusCode).toBe(401)
    expect((await actor.logIn()).statusCode).toBe(401)
    expect(await metric(app, 'auth_sessions_revoked_total{reason="disabled"}')).toBe(before + 1)
    await change(actor, { is_active: true })
    expect((await actor.me()).statusCode).toBe(401)
    expect((await actor.refresh()).statusCode).toBe(401)
    expect((await actor.logIn()).statusCode).toBe(200)
  })

  test('of the roles takes effect on the next request and leaves the sessions', async () => {
    const actor = await signedUp(app)
    await change(actor, { roles: ['admin'] })
    expect((await actor.send('GET', '/users')).statusCode).toBe(200)
    await change(actor, { roles: [] })
    expect((await actor.send('GET', '/users')).statusCode).toBe(403)
    expect((await actor.me()).json<UserBody>().roles).toEqual([])
  })

  test('takes any word for a role, also one that means something in SQL', async () => {
    const actor = await signedUp(app)
    await change(actor, { roles: ['null', 'user'] })
    expect((await actor.me()).json<UserBody>().roles).toEqual(['null', 'user'])
  })

  test('answers 409 for what somebody else has', async () => {
    const [actor, other] = [await signedUp(app), await signedUp(app, { username: `taken${randomUUID()}` })]
    const taken = await change(actor, { email: other.email.toUpperCase() })
    expect([taken.statusCode, codeOf(taken)]).toEqual([409, 'email_taken'])
  })

  test.each([
    {},
    { id: 1 },
    { roles: ['user'], password: 'x' },
    { roles: ['a', 'a'] },
    { roles: ['Admin'] },
    { roles: ['a,b'] },
    { roles: Array.from({ length: 17 }, (_, i) => `r${i}`) },
    { roles: 'admin' },
    { roles: null },
    { is_active: 'false' },
    { is_active: null },
    { email: null },
    { email: 'x' },
    { username: 'a@b' },
    { full_name: 'a\0b' },
  ])('refuses %j', async (body) => {
    expect((await change(admin, body)).statusCode).toBe(400)
  })
})

describe('a role whose name begins like that of administrators', () => {
  test('is not theirs', async () => {
    const actor = await signedUp(app)
    await sql`update users set roles = '{user,administrator,admin2}' where id = ${actor.userId}`
    expect((await actor.send('GET', '/users')).statusCode).toBe(403)
  })
})

describe('POST /users/{id}/logout', () => {
  test('ends every session and lets the user log in again', async () => {
    const actor = await signedUp(app)
    await actor.logIn()
    expect((await admin.send('POST', `/users/${actor.userId}/logout`)).statusCode).toBe(204)
    expect((await actor.me()).statusCode).toBe(401)
    const [event] = await sql`
      select detail ->> 'reason' as reason from audit_events where user_id = ${actor.userId} and type = 'sessions.ended'`
    expect(event).toEqual({ reason: 'admin' })
    expect((await actor.logIn()).statusCode).toBe(200)
  })
})

describe('DELETE /users/{id}', () => {
  test('leaves one event and nothing else', async () => {
    const actor = await signedUp(app)
    expect((await admin.send('DELETE', `/users/${actor.userId}`)).statusCode).toBe(204)
    expect((await actor.me()).statusCode).toBe(401)
    expect((await actor.refresh()).statusCode).toBe(401)
    expect((await admin.send('GET', `/users/${actor.userId}`)).statusCode).toBe(404)
    const { items } = (await admin.send('GET', `/users/${actor.userId}/events`)).json<Page<EventBody>>()
    expect(items).toMatchObject([{ type: 'user.deleted', actor_id: admin.userId }])
  })
})

describe('GET /users/{id}/events', () => {
  test('goes back through the trail page by page', async () => {
    const { userId } = await signedUp(app)
    await sql`insert into audit_events (type, user_id) select 'test.' || n, ${userId} from generate_series(1, 120) n`
    const types: string[] = []
    let path = `/users/${userId}/events`
    for (let pages = 1; ; pages++) {
      const page = (await admin.send('GET', path)).json<Page<EventBody>>()
      types.push(...page.items.map(({ type }) => type))
      if (page.next_cursor === null) {
        expect(pages).toBe(3)
        break
      }
      path = `/users/${userId}/events?cursor=${page.next_cursor}`
    }
    expect(types).toHaveLength(122)
    expect([types[0], types[119], types.at(-1)]).toEqual(['test.120', 'test.1', 'user.registered'])
  })

  test('refuses a cursor of another list', async () => {
    const cursor = Buffer.from('u:1').toString('base64url')
    expect((await admin.send('GET', `/users/${admin.userId}/events?cursor=${cursor}`)).statusCode).toBe(400)
  })
})

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { runAdmin, runAdminProcess, runOnTerminal } from '#test/support/admin.ts'
import { form, formOf, get, password, post, signedUp, type TokenReply } from '#test/support/actors.ts'
import { eventually, mailsTo } from '#test/support/mail.ts'
import { bare, onDatabase } from '#test/support/process.ts'
import { cloneDatabase, startService } from '#test/support/service.ts'

const service = await startService()
const { app, sql, url } = service
const admin = (...args: string[]) => runAdmin(url, args)
/** Runs a command on a terminal, on which somebody types. */
const onTerminal = (args: readonly string[], typed: string) => runOnTerminal(url, args, typed)

const ada = await signedUp(app, { username: 'ada', full_name: 'Ada Lovelace' })
const bob = await signedUp(app, { username: 'bob' })
const rolesOf = async (id: number) => {
  const [{ roles } = {}] = await sql`select array_to_string(roles, ',') as roles from users where id = ${id}`
  return roles as string
}

describe('admin list', () => {
  test('shows a table whose columns stand under each other', async () => {
    const { code, stdout } = await admin('list')
    const [head = '', ...lines] = stdout.trimEnd().split('\n')
    expect([code, lines.length]).toEqual([0, 2])
    expect(lines[0]?.indexOf('ada ')).toBe(head.indexOf('USERNAME'))
    expect(lines[1]?.indexOf('bob ')).toBe(head.indexOf('USERNAME'))
  })

  test('ends in silence when whoever reads it has had enough', async () => {
    const { url } = await cloneDatabase()
    const many = Array.from({ length: 3000 }, (_, i) => `{"email":"u${i}@example.com","password_hash":null}\n`).join('')
    await runAdminProcess(url, ['import', '-'], many)
    const line = `set -o pipefail; ${process.execPath} src/admin.ts list | head -1`
    const options = { env: { ...bare, ...onDatabase(url) } }
    const { stdout, stderr } = await promisify(execFile)('bash', ['--norc', '-c', line], options)
    expect([stdout, stderr]).toEqual([expect.stringMatching(/^ID .*\n$/), ''])
  })

  test('takes filters and writes JSON lines', async () => {
    const { code, stdout } = await admin('list', '--q', 'LOVELACE', '--role', 'user', '--json')
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ id: ada.userId, username: 'ada', is_active: true })
    expect(stdout).not.toContain('argon2')
    expect((await admin('list', '--inactive')).stdout).toBe('No user.\n')
  })
})

describe('admin grant and revoke', () => {
  test('take a username, an e-mail address or an id', async () => {
    expect(await admin('grant', 'ADA', 'admin')).toMatchObject({
      code: 0,
      stdout: `${ada.email} has the roles user, admin.\n`,
    })
    expect((await admin('grant', ada.email, 'editor')).code).toBe(0)
    expect((await admin('revoke', String(ada.userId), 'editor')).code).toBe(0)
    expect(await rolesOf(ada.userId)).toBe('user,admin')
    const [event] =
      await sql`select user_agent, detail::text as detail from audit_events where user_id = ${ada.userId} order by id desc limit 1`
    expect(event).toEqual({
      user_agent: 'admin command',
      detail: '{"roles": {"to": ["user", "admin"], "from": ["user", "admin", "editor"]}, "fields": ["roles"]}',
    })
  })

  test('keep the last administrator', async () => {
    for (const words of [
      ['revoke', 'ada', 'admin'],
      ['disable', 'ada'],
    ]) {
      const { code, stderr } = await admin(...words)
      expect([code, stderr]).toEqual([1, 'The last active administrator cannot be removed, demoted or disabled.\n'])
    }
    expect(await rolesOf(ada.userId)).toBe('user,admin')
  })
})

describe('admin disable, enable and logout', () => {
  test('end the sessions, and let the user in again', async () => {
    expect((await admin('disable', 'bob')).code).toBe(0)
    expect((await bob.me()).statusCode).toBe(401)
    expect((await bob.logIn()).statusCode).toBe(401)
    expect((await admin('enable', 'bob')).code).toBe(0)
    expect((await bob.logIn()).statusCode).toBe(200)
    expect(await admin('logout', 'bob')).toMatchObject({
      code: 0,
      stdout: `${bob.email} is logged out; sessions ended: 1.\n`,
    })
  })
})

describe('admin create', () => {
  const create = (email: string, ...more: string[]) =>
    runAdmin(url, ['create', '--email', email, ...more], `${password}\n`)

  test('makes an administrator whose address counts as confirmed', async () => {
    expect(await create('root@example.com', '--username', 'root', '--full-name', 'Root')).toMatchObject({
      code: 0,
      stderr: '',
    })
    const strict = await startService({ REQUIRE_VERIFIED_EMAIL: 'login' }, service)
    const reply = await post(strict.app, '/api/v1/token', formOf({ username: 'root', password }), form)
    expect(reply.statusCode).toBe(200)
    const me = await get(strict.app, '/api/v1/me', { authorization: `Bearer ${reply.json<TokenReply>().access_token}` })
    expect(me.json()).toMatchObject({ email_verified: true, roles: ['user', 'admin'], full_name: 'Root' })
    expect(await sql`select from outbox where recipient = 'root@example.com'`).toEqual([])
    expect(await sql`select from one_time_tokens where email = 'root@example.com'`).toEqual([])
  })

  test.each([
    [1, ['create', '--email', 'root@example.com'], password],
    [1, ['create', '--email', 'weak@example.com'], 'password'],
    [2, ['create', '--email', 'none@example.com'], ''],
    [2, ['create', '--email', 'nul@example.com'], `${password}\0`],
    [2, ['create', '--email', 'no address'], password],
  ])('ends with %i for %j', async (expected, args, typed) => {
    const before = await sql`select count(*) from users`
    const { code, stderr } = await runAdmin(url, args, typed)
    expect([code, stderr]).toEqual([expected, expect.stringMatching(/^[^\n]+\n(Usage: .*\n)?$/)])
    expect(await sql`select count(*) from users`).toEqual(before)
  })
})

describe('admin confirm', () => {
  test('marks the address of a user as confirmed, once', async () => {
    const eve = await signedUp(app)
    expect((await eve.me()).json()).toMatchObject({ email_verified: false })
    expect(await admin('confirm', eve.email)).toMatchObject({ code: 0, stdout: `${eve.email} is confirmed.\n` })
    expect((await eve.me()).json()).toMatchObject({ email_verified: true })
    expect((await admin('confirm', eve.email)).code).toBe(0)
    const events =
      await sql`select actor_id, user_agent from audit_events where user_id = ${eve.userId} and type = 'email.verified'`
    expect(events).toEqual([{ actor_id: null, user_agent: 'admin command' }])
  })

  test('refuses a user who has no address', async () => {
    await sql`insert into users (username) values ('mute')`
    expect(await admin('confirm', 'mute')).toMatchObject({ code: 1, stderr: 'mute has no e-mail address.\n' })
  })
})

describe('admin set-password', () => {
  const set = (name: string, typed: string) => runAdmin(url, ['set-password', name], typed)
  const other = 'another battery, another staple'

  test('sets it, ends every session and outstanding link, and mails the notice', async () => {
    const eve = await signedUp(app, { full_name: 'Eve' })
    await post(app, '/api/v1/forgot-password', { email: eve.email })
    expect(await set(eve.email, `${other}\n`)).toMatchObject({
      code: 0,
      stdout: `${eve.email} has a new password; every session has ended.\n`,
    })
    expect((await eve.me()).statusCode).toBe(401)
    expect((await eve.refresh()).statusCode).toBe(401)
    expect((await eve.logIn()).statusCode).toBe(401)
    const login = formOf({ username: eve.email, password: other })
    expect((await post(app, '/api/v1/token', login, form)).statusCode).toBe(200)
    expect(await sql`select from one_time_tokens where user_id = ${eve.userId} and purpose <> 'email_verify'`).toEqual(
      [],
    )
    const subjects = async () => (await mailsTo(app, eve.email)).map(({ subject }) => subject)
    expect(
      await eventually(async () => (await subjects()).find((subject) => /password.*changed/i.test(subject))),
    ).toBeTruthy()
    const events =
      await sql`select actor_id, user_agent from audit_events where user_id = ${eve.userId} and type = 'password.reset'`
    expect(events).toEqual([{ actor_id: null, user_agent: 'admin command' }])
  })

  test('gives one to an account that has none', async () => {
    await sql`insert into users (email) values ('bare@example.com')`
    expect((await set('bare@example.com', other)).code).toBe(0)
    const login = formOf({ username: 'bare@example.com', password: other })
    expect((await post(app, '/api/v1/token', login, form)).statusCode).toBe(200)
  })

  test('refuses what a user could not choose', async () => {
    const eve = await signedUp(app)
    for (const unsuitable of ['short', 'password123', eve.email])
      expect(await set(eve.email, unsuitable)).toMatchObject({ code: 1, stderr: expect.stringMatching(/^password: /) })
    expect((await eve.me()).statusCode).toBe(200)
  })

  test.runIf(process.platform === 'linux')('reads from a terminal without showing what is typed', async () => {
    const eve = await signedUp(app)
    const { code, shown } = await onTerminal(['set-password', eve.email], `${other}\n`)
    expect([code, shown]).toEqual([0, expect.stringContaining('Password:')])
    expect(shown).not.toContain(other)
    expect((await eve.logIn()).statusCode).toBe(401)
  })
})

describe('admin delete', () => {
  const exists = async (id: number) =>
    (await get(app, `/api/v1/users/${id}`, { authorization: await bearer() })).statusCode
  const bearer = async () => {
    const { access_token } = (
      await post(app, '/api/v1/token', formOf({ username: 'root', password }), form)
    ).json<TokenReply>()
    return `Bearer ${access_token}`
  }

  test('asks on a terminal', async () => {
    const eve = await signedUp(app)
    expect(await onTerminal(['delete', eve.email], 'n\n')).toMatchObject({
      code: 1,
      shown: expect.stringContaining(eve.email),
    })
    expect(await exists(eve.userId)).toBe(200)
    expect((await onTerminal(['delete', eve.email], 'yes\n')).code).toBe(0)
    expect(await exists(eve.userId)).toBe(404)
  })

  test('wants --yes where nobody can be asked', async () => {
    const eve = await signedUp(app)
    expect(await runAdmin(url, ['delete', eve.email], 'yes\n')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--yes'),
    })
    expect(await exists(eve.userId)).toBe(200)
    expect(await admin('delete', eve.email, '--yes')).toMatchObject({ code: 0, stdout: `${eve.email} is deleted.\n` })
    expect(await exists(eve.userId)).toBe(404)
    expect((await eve.me()).statusCode).toBe(401)
  })

  test('keeps the last administrator', async () => {
    await admin('revoke', 'ada', 'admin')
    const { code, stderr } = await admin('delete', 'root', '--yes')
    expect([code, stderr]).toEqual([1, 'The last active administrator cannot be removed, demoted or disabled.\n'])
  })
})

describe('the admin command', () => {
  test.concurrent.each([
    [2, ['grant', 'ada', 'Not A Role']],
    [1, ['disable', 'nobody']],
    [1, ['confirm', 'nobody']],
    [1, ['set-password', 'nobody']],
    [1, ['delete', 'nobody', '--yes']],
    [1, ['logout', '99999999999']],
    [1, ['revoke', 'ada', 'editor']],
    [2, ['import', 'x', '--format', 'xml']],
    [2, ['import', 'x', '--map', 'nonsense']],
    [1, ['import', '/nowhere/users.jsonl']],
    [1, ['export', '/nowhere/users.jsonl']],
  ])('ends with %i for %j, in words and without a stack', async (expected, args) => {
    const { code, stdout, stderr } = await admin(...args)
    expect([code, stdout]).toEqual([expected, ''])
    expect(stderr).toMatch(/\S/)
    expect(stderr).not.toMatch(/ at .*\.ts:|ERR_/)
  })
})

describe('admin demo', () => {
  test('makes users of every kind with their sessions, who can log in, once', async () => {
    const { app, sql, url } = await startService()
    const made = await runAdmin(url, ['demo'])
    expect([made.code, made.stdout.match(/@example\.com$/gm)?.length]).toEqual([0, 5])
    const [, password = ''] = /new: (\S+)/.exec(made.stdout) ?? []
    const logIn = (name: string) => post(app, '/api/v1/token', formOf({ username: name, password }), form)
    expect((await logIn('team')).statusCode).toBe(200)
    expect((await logIn('disabled')).statusCode).toBe(401)
    const again = await runAdmin(url, ['demo'])
    expect([again.code, again.stdout.match(/\(was there\)/g)?.length]).toEqual([0, 5])
    expect((await sql`select count(*)::integer as count from sessions`)[0]).toEqual({ count: 6 })
  })

  test('is not for production', async () => {
    const { code, stderr } = await runAdmin(url, ['demo'], '', {
      ENVIRONMENT: 'production',
      PUBLIC_URL: 'https://example.com',
    })
    expect([code, stderr]).toEqual([1, expect.stringContaining('for development')])
  })
})

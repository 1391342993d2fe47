import { describe, expect, test } from 'vitest'
import { runAdmin } from '#test/support/admin.ts'
import { signedUp } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const { app, sql, url } = await startService()
const admin = (...args: string[]) => runAdmin(url, args)

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

describe('the admin command', () => {
  test.concurrent.each([
    [2, []],
    [2, ['nonsense']],
    [2, ['constructor']],
    [2, ['list', '--nonsense']],
    [2, ['grant', 'ada']],
    [2, ['grant', 'ada', 'Not A Role']],
    [2, ['disable']],
    [2, ['logout', 'ada', 'bob']],
    [1, ['disable', 'nobody']],
    [1, ['logout', '99999999999']],
    [1, ['revoke', 'ada', 'editor']],
    [2, ['import']],
    [2, ['import', 'x', '--format', 'xml']],
    [2, ['import', 'x', '--map', 'nonsense']],
    [1, ['import', '/nowhere/users.jsonl']],
    [1, ['export', '/nowhere/users.jsonl']],
    [2, ['export', '--nonsense']],
  ])('ends with %i for %j, in words and without a stack', async (expected, args) => {
    const { code, stdout, stderr } = await admin(...args)
    expect([code, stdout]).toEqual([expected, ''])
    expect(stderr).toMatch(/\S/)
    expect(stderr).not.toMatch(/ at .*\.ts:|ERR_/)
  })
})

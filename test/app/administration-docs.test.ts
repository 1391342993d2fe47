import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { hash as bcrypt } from '@node-rs/bcrypt'
import { describe, expect, test } from 'vitest'
import { commands } from '#src/cli/commands.ts'
import { presetNames } from '#src/cli/columns.ts'
import { form, formOf, get, post } from '#test/support/actors.ts'
import { bare, onDatabase, temporaryFolder } from '#test/support/process.ts'
import { cloneDatabase, startService, type TestDatabase } from '#test/support/service.ts'

const run = promisify(execFile)
const document = (name: string) => readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8')
const blocks = (name: string, language: string) =>
  [...document(name).matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, 'gms'))].map(([, block = '']) => block)
const rows = (name: string) =>
  document(name)
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .map((line) => line.slice(2, -2).split(/ (?<!\\)\| /))

const password = 'correct-horse-battery-staple'

/** Runs lines of a document as they are pasted; whoever is asked for a password types one. */
async function paste(script: string, url: string, cwd: string): Promise<string> {
  const npm = `npm() { shift 3; printf '%s\\n' '${password}' | '${process.execPath}' '${process.cwd()}/src/admin.ts' "$@"; }\n`
  const env = { ...bare, ...onDatabase(url) }
  const { stdout } = await run('bash', ['--norc', '-euo', 'pipefail', '-c', npm + script], { cwd, env })
  return stdout
}

describe('docs/administration.md', () => {
  test('lists every command as it is called', () => {
    const listed = rows('administration.md').map(([name = '']) => name.replaceAll('\\|', '|'))
    for (const { synopsis } of commands.values()) expect(listed).toContain(`\`${synopsis}\``)
  })

  test('lists every route of the HTTP API', async () => {
    const { app } = await startService({ CONTRACTS: 'kanban' })
    const { paths } = (await get(app, '/openapi.json')).json<{
      paths: Record<string, Record<string, { tags?: string[] }>>
    }>()
    const routes = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods)
        .filter(([, { tags }]) => tags?.includes('administration'))
        .map(([method]) => `\`${method.toUpperCase()} ${path.replace('/api/v1', '')}\``),
    )
    const listed = rows('administration.md').map(([name]) => name)
    expect(routes.length).toBeGreaterThan(5)
    expect(new Set(listed.filter((name) => / \/users/.test(name ?? '')))).toEqual(new Set(routes))
  })

  test('has examples that work as they are pasted', async () => {
    const service = await startService()
    const { app, url, sql } = service
    await sql`insert into users (email) values ('first@example.com'), ('ada@example.com')`
    await paste(blocks('administration.md', 'sh')[0] ?? '', url, await temporaryFolder())
    expect(await sql`select email, username, roles::text from users where deleted_at is null order by id`).toEqual([
      { email: 'first@example.com', username: null, roles: '{user}' },
      { email: 'you@example.com', username: 'you', roles: '{user,admin}' },
    ])
    await sql`insert into users (id, email) overriding system value values (20, 'ada@example.com')`
    const base = await app.listen({ host: '127.0.0.1', port: 0 })
    const tour = (blocks('administration.md', 'bash')[0] ?? '')
      .replace('http://localhost:8000', base)
      .replaceAll('/users/2', '/users/20')
    const said = await paste(tour, url, await temporaryFolder())
    expect(said).toContain('"roles":["user","editor"]')
    expect(said).toContain('"type":"user.updated"')
  })
})

describe('docs/migrating.md', () => {
  const table = rows('migrating.md').flatMap(([, preset = '', dump = '']) =>
    /copy|mongoexport/.test(dump) ? [[preset.slice(1, -1), dump]] : [],
  )

  /** The users of each service as its own database has them: a table, or lines of JSON. */
  const old: Record<string, string> = {
    kanban: `id, email, hashed_password, full_name, role, is_active, created_at)
      values (7, 'ada@example.com', HASH, 'Ada', 'admin', true, timestamp '2021-03-04 05:06:07.5'`,
    'ai-chat': `id, name, username, hashed_password) values (7, 'Ada', 'ada', HASH`,
    'auth-signup': `id, username, email, hashed_password, is_active, is_verified)
      values (7, 'ada', 'ada@example.com', HASH, true, true`,
    'auth-register': `id, username, email, hashed_password) values (7, 'ada', 'ada@example.com', HASH`,
    'fastapi-users': `id, email, hashed_password, is_active, is_superuser, is_verified)
      values (gen_random_uuid(), 'ada@example.com', HASH, true, true, true`,
  }

  test('has a row for every preset', () => {
    expect(new Set(['latchkey', ...table.map(([preset]) => preset)])).toEqual(new Set(presetNames))
  })

  /** Writes what the dump of a service would, and resolves to the imports that the document shows. */
  async function dumped([preset = '', dump = '']: string[], { sql }: TestDatabase, cwd: string): Promise<string[]> {
    const file = /users\.\w+/.exec(dump)?.[0] ?? 'users.jsonl'
    const hash = await bcrypt(password, 4)
    const [names, values] = (old[preset] ?? '').split(/\)\s+values \(/)
    if (values === undefined) {
      const id = { $oid: '65f1c0ffee65f1c0ffee65f1' }
      const line = { _id: id, email: 'ada@example.com', name: 'Ada', hashed_password: hash }
      await writeFile(join(cwd, file), `${JSON.stringify(line)}\n`)
    } else {
      const query = `select * from (values (${values.replace('HASH', `'${hash}'`)})) as old (${names})`
      await writeFile(join(cwd, file), await text(await sql.unsafe(`copy (${query}) to stdout csv header`).readable()))
    }
    const examples = [...document('migrating.md').matchAll(/`(npm run admin -- import [^`]*users\.[^`]+)`/g)]
    return examples.map(([, example = '']) => example.replace('PRESET', preset).replace('users.csv', file))
  }

  test.each(table)('has a command that brings the users of %s along, who can then log in', async (...row) => {
    const database = await cloneDatabase()
    const cwd = await temporaryFolder()
    const [tried = ''] = await dumped(row, database, cwd)
    const said = await paste(tried.replace(' --dry-run', ''), database.url, cwd)
    expect(said).toContain('Imported 1 users of 1 rows; refused: 0')
    expect(said).toContain('0 argon2id, 1 bcrypt, 0 none')
    const { app } = await startService({}, database)
    const [{ name } = {}] = await database.sql`select coalesce(email, username) as name from users`
    const reply = await post(app, '/api/v1/token', formOf({ username: String(name), password }), form)
    expect(reply.statusCode).toBe(200)
  })

  test('has examples that work as they are pasted', async () => {
    const database = await cloneDatabase()
    const cwd = await temporaryFolder()
    const [tried = '', passwordless = '', updating = '', ...others] = await dumped(table[0] ?? [], database, cwd)
    expect(others).toEqual([])
    expect(await paste(tried, database.url, cwd)).toContain('Would import 1 users of 1 rows')
    expect(await database.sql`select from users`).toHaveLength(0)
    expect(await paste(passwordless, database.url, cwd)).toContain('Imported 1 users of 1 rows')
    await database.sql`update users set password_hash = null`
    expect(await paste(updating, database.url, cwd)).toContain('Filled in what was missing in 1 accounts.')
    for (const [, example = ''] of document('migrating.md').matchAll(/`(npm run admin -- export [^`]+)`/g))
      expect(await paste(example, database.url, cwd)).toMatch(/^The users are in (new|users)\.jsonl;/)
  })
})

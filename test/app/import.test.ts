import { randomUUID } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hash as bcrypt } from '@node-rs/bcrypt'
import { hash as argon2 } from '@node-rs/argon2'
import { describe, expect, test } from 'vitest'
import { form, formOf, password, post } from '#test/support/actors.ts'
import { runAdmin } from '#test/support/admin.ts'
import { temporaryFolder } from '#test/support/process.ts'
import { cloneDatabase, startService } from '#test/support/service.ts'

const folder = await temporaryFolder()
const bcryptHash = await bcrypt(password, 4)
const argon2Hash = await argon2(password, { memoryCost: 4096, timeCost: 2, parallelism: 1 })

/** A database with the verbs of this file. */
async function target() {
  const { url, sql } = await cloneDatabase()
  return {
    url,
    sql,
    /** Imports a text; resolves to what the command said and to the lines of its report. */
    bring: async (text: string, ...args: string[]) => {
      const report = join(folder, `${randomUUID()}.jsonl`)
      const { code, stdout, stderr } = await runAdmin(url, ['import', '-', '--report', report, ...args], text)
      expect([code, stderr]).toEqual([0, ''])
      const lines = (await readFile(report, 'utf8')).split('\n').filter(Boolean)
      return { said: stdout, refused: lines.map((line) => JSON.parse(line) as { line: number; reason: string }) }
    },
    count: async () => {
      const [{ n } = {}] = await sql`select count(*)::integer as n from users`
      return n as number
    },
  }
}

const jsonLines = (...rows: unknown[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('')
const hashOf = (row: Record<string, unknown> | undefined) => String(row?.['password_hash'])

describe('import', () => {
  test('brings every field along from JSON lines, and again changes nothing', async () => {
    const { bring, sql, count } = await target()
    const file = jsonLines(
      {
        email: 'Ada@Example.com',
        username: 'ada',
        full_name: 'Ada Lövelace 🧮',
        roles: ['user', 'editor'],
        is_active: false,
        created_at: '2021-03-04T05:06:07.123456+02:00',
        email_verified: true,
        password_hash: argon2Hash,
      },
      { username: 'bob' },
    )
    expect((await bring(file)).said).toBe(
      'Imported 2 users of 2 rows; refused: 0 (0 registered already).\nPassword hashes: 1 argon2id, 0 bcrypt, 1 none.\n',
    )
    const rows = await sql`
      select email, username, full_name, array_to_string(roles, ',') as roles, is_active, password_hash,
        to_char(created_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') as created_at, email_verified_at is not null as verified
      from users order by id`
    expect(rows[0]).toEqual({
      email: 'Ada@Example.com',
      username: 'ada',
      full_name: 'Ada Lövelace 🧮',
      roles: 'user,editor',
      is_active: false,
      created_at: '2021-03-04 03:06:07.123456',
      verified: true,
      password_hash: argon2Hash,
    })
    expect(rows[1]).toMatchObject({ username: 'bob', email: null, roles: 'user', is_active: true, password_hash: null })
    expect((await sql`select from audit_events where type = 'user.imported'`).length).toBe(2)

    const again = await bring(file)
    expect(again.said).toContain('Imported 0 users of 2 rows; refused: 2 (2 registered already).\n')
    expect(again.refused.map(({ line }) => line)).toEqual([1, 2])
    expect(await count()).toBe(2)
  })

  test('reads CSV with quotes, line breaks, a byte order mark and empty cells', async () => {
    const { bring, sql } = await target()
    const { said, refused } = await bring(
      '\uFEFFid,email,username,full_name,roles,is_active,created_at,email_verified,password_hash\r\n' +
        `7,ada@example.com,,"Lovelace, ""Ada""","{user,admin}",f,2021-03-04 05:06:07.5+00,t,${bcryptHash}\r\n` +
        `8,broken@example.com,"two\nlines",,,,,,\r\n` +
        `9,short@example.com\r\n` +
        `10,bob@example.com,bob,,,,,,\r\n`,
      '--format',
      'csv',
    )
    expect(said).toBe(
      'Imported 2 users of 4 rows; refused: 2 (0 registered already).\nPassword hashes: 0 argon2id, 1 bcrypt, 1 none.\nColumns that were not used: id.\n',
    )
    expect(refused.map(({ line }) => line).toSorted((a, b) => a - b)).toEqual([4, 5])
    const rows =
      await sql`select email, full_name, array_to_string(roles, ',') as roles, is_active from users order by id`
    expect(rows).toEqual([
      { email: 'ada@example.com', full_name: 'Lovelace, "Ada"', roles: 'user,admin', is_active: false },
      { email: 'bob@example.com', full_name: null, roles: 'user', is_active: true },
    ])
  })

  test.each([
    ['kanban', { email: 'k@example.com', hashed_password: bcryptHash, role: 'Admin' }, { roles: 'admin' }],
    [
      'llm-optimizer',
      {
        _id: { $oid: '65f1c0ffee65f1c0ffee65f1' },
        email: 'm@example.com',
        full_name: 'Mona',
        hashed_password: bcryptHash,
        created_at: { $date: '2024-01-02T03:04:05.678Z' },
      },
      { full_name: 'Mona', created: '2024-01-02 03:04:05' },
    ],
    [
      'llm-optimizer',
      { email: 'n@example.com', hashed_password: bcryptHash, created_at: { $date: { $numberLong: '1704164645678' } } },
      { created: '2024-01-02 03:04:05' },
    ],
    ['ai-chat', { id: 1, name: 'Chatty', username: 'chatty', hashed_password: argon2Hash }, { full_name: 'Chatty' }],
    [
      'auth-signup',
      { username: 's', email: 's@example.com', hashed_password: bcryptHash, is_active: false },
      { is_active: false },
    ],
    ['auth-register', { username: 'r', email: 'r@example.com', password: bcryptHash }, { username: 'r' }],
    [
      'fastapi-users',
      { id: 'd1', email: 'f@example.com', hashed_password: argon2Hash, is_superuser: true, is_verified: true },
      { roles: 'user,admin', verified: true },
    ],
    [
      'fastapi-users',
      { id: 'd2', email: 'g@example.com', hashed_password: argon2Hash, is_superuser: false, is_verified: false },
      { roles: 'user', verified: false },
    ],
  ])('knows the columns of %s', async (preset, row, expected) => {
    const { bring, sql } = await target()
    expect((await bring(jsonLines(row), '--map', preset)).said).toContain('Imported 1 users of 1 rows')
    const [user] = await sql`
      select username, full_name, array_to_string(roles, ',') as roles, is_active, password_hash,
        email_verified_at is not null as verified, to_char(created_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') as created
      from users`
    expect(user).toMatchObject(expected)
    expect(hashOf(user)).toMatch(/^\$/)
  })

  test('takes any column for a field', async () => {
    const { bring, sql } = await target()
    await bring(
      jsonLines({ mail: 'ada@example.com', nick: 'ada', password_hash: null }),
      '--map',
      'email=mail',
      '--map',
      'username=nick',
    )
    expect(await sql`select email, username from users`).toEqual([{ email: 'ada@example.com', username: 'ada' }])
  })

  test('refuses what cannot be a user, each row by itself, and repeats none of it', async () => {
    const { bring, count } = await target()
    const secret = '$2b$31$SECRETSECRETSECRETSECRETSECRETSECRETSECRETSECRETSECRE'
    const bad = [
      {},
      { email: 'no address' },
      { email: ['a@example.com'] },
      { username: 'a@b' },
      { username: 'x\0' },
      { email: 'a@example.com', full_name: 'line\nbreak' },
      { email: 'a@example.com', full_name: '\uD800' },
      { email: 'a@example.com', password_hash: secret },
      { email: 'a@example.com', password_hash: `${bcryptHash}x` },
      { email: 'a@example.com', password_hash: 'a plain password' },
      { email: 'a@example.com', password_hash: '$argon2id$v=19$m=9999999,t=3,p=1$c2FsdHNhbHQ$aGFzaGhhc2g' },
      { email: 'a@example.com', roles: ['a b'] },
      { email: 'a@example.com', roles: 7 },
      { email: 'a@example.com', roles: Array.from({ length: 17 }, (_, i) => `role${i}`) },
      { email: 'a@example.com', is_active: 'maybe' },
      { email: 'a@example.com', created_at: '2021-02-30T00:00:00Z' },
      { email: 'a@example.com', created_at: '9999-01-01' },
      { email: 'a@example.com', created_at: 'yesterday' },
      [],
      null,
    ]
    const file = `${jsonLines(...bad)}{"email":"a@example.com"\n\n${jsonLines({ email: 'good@example.com' })}`
    const { said, refused } = await bring(file)
    expect(said).toContain(
      `Imported 1 users of ${bad.length + 2} rows; refused: ${bad.length + 1} (0 registered already).\n`,
    )
    expect(refused.map(({ line }) => line)).toEqual(Array.from({ length: bad.length + 1 }, (_, i) => i + 1))
    for (const { reason } of refused) expect(reason).not.toMatch(/example\.com|SECRET|\$|plain/)
    expect(await count()).toBe(1)
  })

  test('takes 16 roles', async () => {
    const { bring, sql } = await target()
    const roles = Array.from({ length: 16 }, (_, i) => `role${i}`)
    await bring(jsonLines({ email: 'a@example.com', roles, password_hash: null }))
    expect(await sql`select cardinality(roles) as n from users`).toEqual([{ n: 16 }])
  })

  test('takes the first of those who share an address or a username, whatever the case', async () => {
    const { bring, sql } = await target()
    await sql`insert into users (email, username) values ('Old@example.com', 'old')`
    const { refused } = await bring(
      jsonLines(
        { email: 'ada@example.com', username: 'ada', password_hash: null },
        { email: 'ADA@example.com' },
        { email: 'new@example.com', username: 'Ada' },
        { email: 'old@EXAMPLE.com' },
        { username: 'OLD' },
        { email: 'ada@example.com', username: 'ada' },
      ),
    )
    expect(refused.map(({ line }) => line).toSorted((a, b) => a - b)).toEqual([2, 3, 4, 5, 6])
    expect(await sql`select email from users order by id`).toEqual([
      { email: 'Old@example.com' },
      { email: 'ada@example.com' },
    ])
  })

  test('finds duplicates across batches, and says so in a dry run that changes nothing', async () => {
    const { bring, count } = await target()
    const rows = Array.from({ length: 4500 }, (_, i) => ({ email: `user${i % 4400}@example.com`, password_hash: null }))
    const said = '4400 users of 4500 rows; refused: 100 (100 registered already).\n'
    const hashes = 'Password hashes: 0 argon2id, 0 bcrypt, 4400 none.\n'
    const dry = await bring(jsonLines(...rows), '--dry-run')
    expect([dry.said, await count()]).toEqual([`Would import ${said}${hashes}`, 0])
    const wet = await bring(jsonLines(...rows))
    expect([wet.said, await count()]).toEqual([`Imported ${said}${hashes}`, 4400])
    expect(wet.refused).toEqual(dry.refused)
    expect((await bring(jsonLines(...rows), '--dry-run')).said).toContain('Would import 0 users of 4500 rows')
  })

  test('refuses lines that are too long or not UTF-8 and goes on', async () => {
    const { url, sql } = await target()
    const file = join(folder, 'odd.jsonl')
    const odd = Buffer.concat([
      Buffer.from(`{"email":"long@example.com","x":"${'x'.repeat(3 << 20)}"}\n`),
      Buffer.from('{"email":"latin@example.com","full_name":"Lov'),
      Buffer.from([0xe9]),
      Buffer.from('lace"}\n{"email":"last@example.com"}'),
    ])
    await writeFile(file, odd)
    const { code, stderr } = await runAdmin(url, ['import', file, '--without-passwords'])
    expect([code, stderr]).toEqual([0, 'line 1: the line is longer than 1 MiB\nline 2: the line is not UTF-8\n'])
    expect(await sql`select email from users`).toEqual([{ email: 'last@example.com' }])
  })
})

const brought = await target()
const { app } = await startService({}, brought)
await brought.bring(
  jsonLines(
    { email: 'b@example.com', password_hash: bcryptHash.replace(/^\$2./, '$2y') },
    { email: 'a@example.com', password_hash: argon2Hash },
    { email: 'none@example.com' },
  ),
)

describe('an imported user', () => {
  const logIn = (username: string, text = password) =>
    post(app, '/api/v1/token', formOf({ username, password: text }), form)

  test.each(['b@example.com', 'a@example.com'])(
    'logs in and has an argon2id hash of today from then on (%s)',
    async (email) => {
      expect((await logIn(email, 'another password')).statusCode).toBe(401)
      expect((await logIn(email)).statusCode).toBe(200)
      const [user] = await brought.sql`select password_hash from users where email = ${email}`
      expect(hashOf(user)).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/)
      expect((await logIn(email)).statusCode).toBe(200)
    },
  )

  test('without a hash cannot log in before a reset', async () => {
    expect((await logIn('none@example.com', '')).statusCode).toBe(401)
  })
})

describe('export', () => {
  test('writes what import reads: another database holds the same users afterwards', async () => {
    const [from, to] = [await target(), await target()]
    await from.bring(
      jsonLines(
        { email: 'a@example.com', username: 'a', full_name: '"A" \\ ü', roles: ['x', 'y'], password_hash: argon2Hash },
        { username: 'b', is_active: false, email_verified: true, created_at: '2020-01-01T00:00:00.000001Z', roles: [] },
      ),
    )
    const file = join(folder, 'export.jsonl')
    expect(await runAdmin(from.url, ['export', file])).toMatchObject({ code: 0, stderr: '' })
    expect(await runAdmin(from.url, ['export', file])).toMatchObject({
      code: 1,
      stderr: `${file} cannot be written: it exists already.\n`,
    })
    expect((await to.bring(await readFile(file, 'utf8'))).said).toContain('Imported 2 users of 2 rows')
    const [first, second] = [await runAdmin(from.url, ['export', '-']), await runAdmin(to.url, ['export'])]
    expect(second.stdout).toBe(first.stdout)
    expect(first.stdout).toBe(await readFile(file, 'utf8'))
    const kept =
      'select email, username, full_name, roles::text, is_active, created_at, password_hash from users order by id'
    expect(await to.sql.unsafe(kept)).toEqual(await from.sql.unsafe(kept))
  })
})

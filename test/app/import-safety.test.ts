import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { hash as bcrypt } from '@node-rs/bcrypt'
import { hash as argon2 } from '@node-rs/argon2'
import { describe, expect, test } from 'vitest'
import { form, formOf, password, post, signedUp } from '#test/support/actors.ts'
import { runAdmin } from '#test/support/admin.ts'
import { temporaryFolder } from '#test/support/process.ts'
import { cloneDatabase, startService } from '#test/support/service.ts'

const bcryptHash = await bcrypt(password, 4)
const argon2Hash = await argon2(password, { memoryCost: 4096, timeCost: 2, parallelism: 1 })
const jsonLines = (...rows: unknown[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('')

async function target() {
  const database = await cloneDatabase()
  const { url, sql } = database
  return {
    database,
    sql,
    bring: (text: string, ...args: string[]) => runAdmin(url, ['import', '-', ...args], text),
    users: async () => [
      ...(await sql`
        select email, username, full_name, password_hash, email_verified_at is not null as verified from users order by id`),
    ],
  }
}

describe('a column of password hashes', () => {
  test.each([
    ['hashed_password', bcryptHash],
    ['password', argon2Hash],
    ['Password_Hash', bcryptHash],
    ['encrypted_password', 'pbkdf2_sha256$1000$salt$hash'],
    ['passwd', bcryptHash],
    ['hash', bcryptHash],
    ['secret', bcryptHash],
    ['pw', argon2Hash],
  ])('that no field takes (%s) stops the import before it begins', async (column, hash) => {
    const { bring, users } = await target()
    const rows = [{ email: 'a@example.com' }, { email: 'b@example.com', [column]: hash }]
    const { code, stdout, stderr } = await bring(jsonLines(...rows))
    expect([code, stdout, await users()]).toEqual([1, '', []])
    expect(stderr).toContain(`--map password_hash=${column}`)
    expect(stderr).not.toContain(hash)
  })

  test('is found in CSV as well', async () => {
    const { bring, users } = await target()
    const { code, stderr } = await bring(`email,hashed_password\na@example.com,${bcryptHash}\n`, '--format', 'csv')
    expect([code, await users()]).toEqual([1, []])
    expect(stderr).toContain('hashed_password')
  })

  test('that shows up late costs only the rows that have it', async () => {
    const { bring, users } = await target()
    const early = Array.from({ length: 1000 }, (_, i) => ({ email: `u${i}@example.com`, password_hash: null }))
    const late = { email: 'late@example.com', hashed_password: bcryptHash }
    const { code, stdout, stderr } = await bring(jsonLines(...early, late))
    expect(stdout).toContain('Imported 1000 users of 1001 rows; refused: 1 (0 registered already).')
    expect([code, stderr]).toEqual([0, expect.stringMatching(/^line 1001: the column hashed_password /)])
    expect(await users()).toHaveLength(1000)
  })

  test('is not missed where another one has the hash', async () => {
    const { bring } = await target()
    const rows = [{ email: 'a@example.com', password_hash: argon2Hash, old_password_hash: bcryptHash, hash: 'x' }]
    const { code, stdout } = await bring(jsonLines(...rows))
    expect([code, stdout]).toEqual([0, expect.stringContaining('not used: old_password_hash, hash.')])
  })

  test('has to be there, unless accounts without a password are wanted', async () => {
    const { bring, users } = await target()
    const file = jsonLines({ email: 'a@example.com' }, { email: 'b@example.com', password: 'pbkdf2$x' })
    expect(await bring(jsonLines({ email: 'a@example.com' }))).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining('--without-passwords'),
    })
    expect(await users()).toEqual([])
    const { code, stdout } = await bring(file, '--without-passwords')
    expect([code, stdout]).toEqual([0, expect.stringContaining('Password hashes: 0 argon2id, 0 bcrypt, 2 none.')])
  })
})

describe('a column that --map names', () => {
  test.each([
    ['password_hash=hashed_pasword', 'hashed_pasword'],
    ['full_name=displayname', 'displayname'],
  ])('and that is not there (%s) stops the import before it begins', async (map, column) => {
    const { bring, users } = await target()
    const file = jsonLines({ email: 'a@example.com', password_hash: bcryptHash })
    const { code, stdout, stderr } = await bring(file, '--map', map)
    expect([code, stdout, await users()]).toEqual([1, '', []])
    expect(stderr).toBe(`--map: there is no column ${column}; the columns are email, password_hash.\n`)
  })

  test('stands before those of a preset, in whichever order', async () => {
    const { bring, users } = await target()
    const file = jsonLines({ mail: 'a@example.com', pw: bcryptHash, role: 'user' })
    for (const map of [
      ['--map', 'kanban', '--map', 'password_hash=pw', '--map', 'email=mail'],
      ['--map', 'password_hash=pw', '--map', 'email=mail', '--map', 'kanban'],
    ])
      expect((await bring(file, ...map)).code).toBe(0)
    expect(await users()).toMatchObject([{ email: 'a@example.com', password_hash: bcryptHash }])
  })
})

describe('the exit code', () => {
  test('tells when every row was refused', async () => {
    const { bring } = await target()
    const { code, stdout, stderr } = await bring(jsonLines({ email: 'none', password_hash: bcryptHash }, {}))
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toMatch(/refused: 2 \(0 registered already\).*Every row was refused\.\n$/s)
    expect((await bring('not JSON\n')).code).toBe(1)
  })

  test('is 0 where all are registered already, and for a file without rows', async () => {
    const { bring } = await target()
    const file = jsonLines({ email: 'a@example.com', password_hash: bcryptHash })
    expect([(await bring(file)).code, (await bring(file)).code, (await bring('')).code]).toEqual([0, 0, 0])
  })
})

describe('the report', () => {
  test('can be read by its owner only', async () => {
    const { bring } = await target()
    const file = join(await temporaryFolder(), 'refused.jsonl')
    await bring(jsonLines({ email: 'none', password_hash: null }), '--report', file)
    expect((await stat(file)).mode & 0o777).toBe(0o600)
  })
})

describe('import --update', () => {
  const bare = [{ email: 'ada@example.com' }, { username: 'bob' }]
  const full = [
    { email: 'ADA@example.com', username: 'ada', full_name: 'Ada', email_verified: true, password_hash: argon2Hash },
    { email: 'bob@example.com', username: 'Bob', full_name: 'Bob', email_verified: true, password_hash: bcryptHash },
    { email: 'new@example.com', password_hash: bcryptHash },
  ]

  test('fills in what accounts of an earlier import lack, so that their users can log in', async () => {
    const { database, bring, users, sql } = await target()
    await bring(jsonLines(...bare), '--without-passwords')
    const dry = await bring(jsonLines(...full), '--update', '--dry-run')
    expect(await users()).toHaveLength(2)
    const { code, stdout } = await bring(jsonLines(...full), '--update')
    expect([code, stdout]).toEqual([
      0,
      'Imported 1 users of 3 rows; refused: 0 (0 registered already).\nFilled in what was missing in 2 accounts.\nPassword hashes: 1 argon2id, 2 bcrypt, 0 none.\n',
    ])
    expect(dry.stdout).toBe(stdout.replace('Imported', 'Would import').replace('Filled', 'Would fill'))
    expect(await users()).toEqual([
      { email: 'ada@example.com', username: 'ada', full_name: 'Ada', password_hash: argon2Hash, verified: true },
      { email: 'bob@example.com', username: 'bob', full_name: 'Bob', password_hash: bcryptHash, verified: true },
      { email: 'new@example.com', username: null, full_name: null, password_hash: bcryptHash, verified: false },
    ])
    const events =
      await sql`select detail::text as detail from audit_events where type = 'user.updated' order by user_id`
    expect(events.map(({ detail }) => JSON.parse(String(detail)))).toEqual([
      { fields: ['password_hash', 'full_name', 'username', 'email_verified'] },
      { fields: ['password_hash', 'full_name', 'email', 'email_verified'] },
    ])
    const { app } = await startService({}, database)
    for (const username of ['ada@example.com', 'bob'])
      expect((await post(app, '/api/v1/token', formOf({ username, password }), form)).statusCode).toBe(200)
  })

  test('overwrites nothing, and again changes nothing', async () => {
    const { bring, users } = await target()
    await bring(jsonLines(...full))
    const before = await users()
    const others = [
      { email: 'ada@example.com', username: 'eve', full_name: 'Eve', email_verified: false, password_hash: bcryptHash },
      { email: 'eve@example.com', username: 'bob', full_name: 'Eve', password_hash: argon2Hash },
      { email: 'new@example.com', username: 'BOB', password_hash: argon2Hash },
    ]
    const { stdout } = await bring(jsonLines(...others), '--update')
    expect(stdout).toContain('refused: 3 (3 registered already).\nFilled in what was missing in 0 accounts.')
    expect(await users()).toEqual(before)
  })

  test('confirms no address and gives none to who registered by themselves', async () => {
    const { database, bring, sql } = await target()
    const { app } = await startService({ CONTRACTS: 'kanban' }, database)
    const thief = await signedUp(app)
    const [{ password_hash: own } = {}] = await sql`select password_hash from users where id = ${thief.userId}`
    await sql`insert into users (username, password_hash) values ('bob', ${own as string})`
    const rows = [
      { email: thief.email, email_verified: true, full_name: 'Owner', password_hash: bcryptHash },
      { email: 'bob@example.com', username: 'bob', email_verified: true, password_hash: bcryptHash },
    ]
    await bring(jsonLines(...rows), '--update')
    expect(await sql`select email, full_name, password_hash, email_verified_at from users order by id`).toEqual([
      { email: thief.email, full_name: 'Owner', password_hash: own, email_verified_at: null },
      { email: null, full_name: null, password_hash: own, email_verified_at: null },
    ])
  })
})

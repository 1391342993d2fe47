import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { commands, overview } from '#src/cli/commands.ts'
import { runAdminProcess, runNode } from '#test/support/admin.ts'
import { cloneDatabase } from '#test/support/service.ts'

const { url, sql } = await cloneDatabase({ empty: true })
const admin = (...args: string[]) => runAdminProcess(url, args)
const names = [...commands.keys()]
const prepare = (name: string, ...args: string[]) => commands.get(name)?.prepare(args)

describe('the help', () => {
  test.each([['--help'], ['-h'], ['help']])('lists every command: %s', async (word) => {
    expect(await admin(word)).toEqual({ code: 0, stdout: overview, stderr: '' })
    for (const name of names) expect(overview).toMatch(new RegExp(`^  ${name}.*\\n      \\S`, 'm'))
  })

  test.each([
    ['migrate', '--help'],
    ['delete', 'ada', '--yes', '-h'],
    ['create', '--help', '--nonsense'],
  ])('of one command says how it is called, and nothing is done: %s %s', async (name, ...args) => {
    expect(await admin(name, ...args)).toEqual({ code: 0, stdout: commands.get(name)?.help, stderr: '' })
    const schemas = await sql`select nspname from pg_namespace where nspname in ('drizzle')`
    expect([...schemas]).toEqual([])
  })

  test.each(names)('of %s begins with its usage and explains every option', (name) => {
    const { help = '', synopsis = '' } = commands.get(name) ?? {}
    expect(help).toContain(`Usage: npm run admin -- ${synopsis}\n\n`)
    for (const [option] of synopsis.matchAll(/--[a-z-]+/g)) expect(help).toMatch(new RegExp(`^  ${option}.*  \\S`, 'm'))
  })

  test('needs the folder of the commands and nothing else: no library, no database', async () => {
    const readable = ['package.json', 'src/admin.ts', 'src/cli'].map((path) => `--allow-fs-read=${resolve(path)}`)
    const { code, stdout } = await runNode(['--permission', ...readable, 'src/admin.ts', '--help'])
    expect([code, stdout]).toEqual([0, overview])
  })

  test('is what an administrator sees who names no command', async () => {
    expect(await admin()).toEqual({ code: 2, stdout: '', stderr: overview })
  })
})

describe('a command line', () => {
  test.each([['nonsense'], ['constructor'], ['--json']])('that names no command (%s) is told so', async (name) => {
    expect(await admin(name)).toEqual({
      code: 2,
      stdout: '',
      stderr: `There is no command ${name}; npm run admin -- --help lists them.\n`,
    })
  })

  test('that cannot be read is answered by the usage of its command', async () => {
    const { code, stdout, stderr } = await admin('migrate', '--nonsense')
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toBe("Unknown option '--nonsense'.\nUsage: npm run admin -- migrate\n")
  })

  test.each(names)('with an option that %s does not have is refused', (name) => {
    expect(() => prepare(name, '--nonsense')).toThrow("Unknown option '--nonsense'.")
  })

  test.each([
    ['grant', ['ada'], 'ROLE is missing'],
    ['logout', ['ada', 'bob'], 'bob is one too many'],
    ['create', [], '--email is missing'],
    ['create', ['--email'], '--email'],
    ['list', ['--json=yes'], '--json'],
    ['migrate', ['now'], 'now is one too many'],
  ])('that has too little or too much is told what: %s %j', (name, args, sentence) => {
    expect(() => prepare(name, ...args)).toThrow(sentence)
  })
})

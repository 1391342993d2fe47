import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { exampleFile, readmeTable, tablePlace } from '#dev/settings/documents.ts'
import { settings } from '#src/config.ts'
import { catalogue } from '#src/problem.ts'
import { startService } from '#test/support/service.ts'

const run = promisify(execFile)
const document = (name: string) => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8')
const block = (name: string, language: string) =>
  new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, 'ms').exec(document(name))?.[1] ?? ''
const byName = ([a = '']: unknown[], [b = '']: unknown[]) => String(a).localeCompare(String(b))
/** The cells of every table row that begins with a name in code style. */
const rows = (name: string) =>
  document(name)
    .split('\n')
    .filter((line) => /^\| `\w+` \|/.test(line))
    .map((line) => line.slice(2, -2).split(' | '))

/** What the service answered, such as `GET /api/v1/me 200`. */
const answered: string[] = []
const service = await startService()
service.app.server.on('request', ({ method, url }, reply) =>
  reply.on('finish', () => answered.push(`${method} ${url} ${reply.statusCode}`)),
)
const base = await service.app.listen({ host: '127.0.0.1', port: 0 })

describe('README', () => {
  test('has a tour that works as it is pasted', async () => {
    const tour = block('README.md', 'bash').replace('http://localhost:8000', base)
    const { stdout } = await run('bash', ['-euo', 'pipefail', '-c', tour])
    expect(answered).toEqual([
      'POST /api/v1/users/ 201',
      'POST /api/v1/token 200',
      'GET /api/v1/me 200',
      'POST /api/v1/refresh 200',
      'POST /api/v1/logout 204',
    ])
    expect(stdout.match(/"email":"ada@example.com"/g)).toHaveLength(2)
    expect(stdout).toMatch(/204\n$/)
  })

  test('lists every setting as it is declared; `npm run settings` writes the table', () => {
    expect(tablePlace.exec(document('README.md'))?.[0]).toBe(readmeTable())
  })

  test('names every secret that can come from a file', () => {
    const named = [...document('README.md').matchAll(/`(\w+)_FILE`/g)].map(([, name]) => name)
    expect(new Set(named)).toEqual(new Set(settings.filter(({ secret }) => secret).map(({ name }) => name)))
  })
})

describe('.env.example', () => {
  test('has the settings that are declared for it; `npm run settings` writes it', () => {
    expect(document('.env.example')).toBe(exampleFile())
  })

  test('has what compose.yaml passes on', () => {
    const passed = [...document('compose.yaml').matchAll(/^ +(\w+): \$\{\1(?::-|:\?.*)\}$/gm)].map(([, name]) => name)
    const named = [...document('.env.example').matchAll(/^(\w+)=$/gm)].map(([, name]) => name)
    expect(new Set(passed)).toEqual(new Set(named))
  })
})

describe('docs/errors.md', () => {
  test('lists every code with its status and its OAuth error', () => {
    const documented = rows('docs/errors.md').map(([code, status, error]) => [code, status, error])
    const real = Object.entries(catalogue).map(([code, [status, error]]) => [
      `\`${code}\``,
      String(status),
      error === null ? '–' : `\`${error}\``,
    ])
    expect(documented.toSorted(byName)).toEqual(real.toSorted(byName))
  })
})

import { spawn, spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { bare, followServer, freePort, onDatabase, temporaryFolder } from '#test/support/process.ts'
import { cloneDatabase } from '#test/support/service.ts'

const root = new URL('../..', import.meta.url).pathname
const [one, several] = ['latchkey.service', 'latchkey@.service'].map((name) => join(root, 'deploy/systemd', name)) as [
  string,
  string,
]
const linesOf = (file: string) => readFileSync(file, 'utf8').split('\n')
const lacks = spawnSync('systemd-analyze', ['--version']).error ? 'skipped: there is no systemd-analyze' : undefined

function expectVerified(unit: string): void {
  const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', unit], { encoding: 'utf8' })
  expect([unit, status, stdout + stderr]).toEqual([unit, 0, ''])
}

describe('the unit for several instances', () => {
  test('is one that systemd takes without a word, as is the unit for one', ({ skip }) => {
    if (lacks !== undefined) {
      console.log(`The test of the units is ${lacks}.`)
      return skip(lacks)
    }
    expectVerified(one)
    expectVerified(several)
  })

  test('is one with a secret as a file, too', async ({ skip }) => {
    if (lacks !== undefined) return skip(lacks)
    const place = await temporaryFolder()
    for (const unit of [one, several]) {
      const suggested = readFileSync(unit, 'utf8').replace(/^# (LoadCredential=|Environment=\w+_FILE=)/gm, '$1')
      expect(suggested).toMatch(/^LoadCredential=(\w+):\/etc\/.+\nEnvironment=SECRET_KEY_FILE=%d\/\1$/m)
      const copy = join(place, basename(unit))
      writeFileSync(copy, suggested)
      expectVerified(copy)
    }
  })

  test('is the unit for one but for the port, the folder and what is said of them', () => {
    const isSaid = (line: string) => line.startsWith('#') || line.startsWith('Description=')
    const [ofOne, ofSeveral] = [one, several].map((unit) => linesOf(unit).filter((line) => !isSaid(line)))
    expect(ofSeveral?.filter((line) => line.includes('%i'))).toHaveLength(3)
    const asOne = ofSeveral?.map((line) => line.replace('/usr/bin/env PORT=%i ', '').replace('-%i', ''))
    expect(asOne).toEqual(ofOne)
  })

  test('starts the service on the port that names the instance, whatever PORT the settings have', async () => {
    const { url } = await cloneDatabase()
    const port = await freePort()
    const command = linesOf(several).find((line) => line.startsWith('ExecStart=')) ?? ''
    const [program = '', ...args] = command.replace('ExecStart=', '').replace('%i', String(port)).split(' ')
    const env = { ...bare, ...onDatabase(url), PORT: '1' }
    const server = followServer(spawn(program, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] }))
    expect(await server.listening).toBe(`http://127.0.0.1:${port}`)
    server.child.kill('SIGTERM')
    expect((await server.exited).code).toBe(0)
  })
})

import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { mutants } from '#test/mutants/mutants.ts'

test('every mutant quotes what its file has exactly once', () => {
  const stale = mutants.filter(({ file, from }) => readFileSync(file, 'utf8').split(from).length !== 2)
  expect(stale.map(({ name }) => name)).toEqual([])
})

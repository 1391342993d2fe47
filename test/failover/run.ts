import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'

const programs = [
  ['/usr/bin/patroni', 'patroni'],
  ['/usr/bin/etcd', 'etcd-server'],
  ['/usr/sbin/haproxy', 'haproxy'],
  ['/usr/sbin/ip', 'iproute2'],
  ['/usr/lib/postgresql/15/bin/postgres', 'postgresql-15'],
] as const
/** Its own network, mounts, processes and shared memory: when the first of these processes ends, so does all of it. */
const own = ['--net', '--mount', '--pid', '--ipc', '--fork', '--mount-proc', '--kill-child']
/** The first process buries those that are left behind by others, which Node would not. */
const first = 'mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /dev/shm && { "$@" & wait $!; }'

/** Why the test cannot run here. */
function lacking(): string | undefined {
  if (process.getuid?.() !== 0) return 'it needs root'
  const missing = programs.flatMap(([path, name]) => (existsSync(path) ? [] : [name]))
  if (missing.length > 0) return `it needs the Debian packages ${missing.join(', ')}`
  const bridge = [...own, 'sh', '-c', first, 'sh', 'ip', 'link', 'add', 'trial', 'type', 'bridge']
  return spawnSync('unshare', bridge).status === 0 ? undefined : 'it needs namespaces and network bridges'
}

const lack = lacking()
if (lack === undefined) {
  const trial = [process.execPath, new URL('trial.ts', import.meta.url).pathname]
  const all = ['--pdeathsig', 'KILL', 'unshare', ...own, 'sh', '-c', first, 'sh', ...trial]
  const { status } = spawnSync('setpriv', all, { stdio: 'inherit' })
  process.exitCode = status ?? 1
} else process.stdout.write(`The failover test did not run: ${lack}.\n`)

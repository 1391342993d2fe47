import { execFileSync } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

const root = join(import.meta.dirname, '../..')
/** How the registry is reached from here. */
const network = ['HOME', 'NODE_EXTRA_CA_CERTS', 'HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'npm_config_registry']

/** A Node and an npm of the wanted versions, such as `20` and `10.8.2`, in a folder that is made for them. */
export function installToolchain(folder: string, node: string, npm: string): void {
  mkdirSync(join(folder, 'bin'), { recursive: true })
  writeFileSync(join(folder, 'package.json'), '{}')
  const packages = [`node-${process.platform}-${process.arch}@${node}`, `npm@${npm}`]
  const options = ['--prefix', folder, '--no-audit', '--no-fund', '--silent', '--engine-strict=false']
  execFileSync('npm', ['install', ...options, ...packages], { stdio: ['ignore', 'ignore', 'inherit'], cwd: folder })
  cpSync(join(folder, 'node_modules', `node-${process.platform}-${process.arch}`, 'bin/node'), join(folder, 'bin/node'))
  cpSync(join(folder, 'node_modules/npm'), join(folder, 'lib/npm'), { recursive: true })
  writeFileSync(
    join(folder, 'bin/npm'),
    '#!/bin/sh\nhere=$(dirname "$0")\nexec "$here/node" "$here/../lib/npm/bin/npm-cli.js" "$@"\n',
  )
  chmodSync(join(folder, 'bin/npm'), 0o755)
}

/** The tracked files, as a clone would have them. */
export function copyProject(folder: string): void {
  const names = execFileSync('git', ['ls-files', '-z'], { cwd: root, encoding: 'utf8' }).split('\0').filter(Boolean)
  for (const name of names) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    cpSync(join(root, name), join(folder, name))
  }
}

/** The environment of somebody who has this toolchain and an empty cache. */
export function environmentOf(toolchain: string, cache: string): Record<string, string> {
  const kept = network.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : []))
  return {
    ...(Object.fromEntries(kept) as Record<string, string>),
    PATH: `${toolchain}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
    PORT: '0',
    npm_config_cache: cache,
    npm_config_loglevel: 'error',
    npm_config_update_notifier: 'false',
  }
}

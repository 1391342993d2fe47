import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

/** Why no program of PyPI can be had here. */
export const lacksPython =
  spawnSync('python3', ['-c', 'import ensurepip, venv']).status === 0
    ? undefined
    : 'skipped: there is no python3 with venv'

/** Installs packages of PyPI in an environment of that name; its programs are in the folder that comes back. */
export function installPython(name: string, ...requirements: string[]): string {
  const environment = join(import.meta.dirname, '../../node_modules/.cache', name)
  if (!existsSync(environment)) execFileSync('python3', ['-m', 'venv', environment])
  const programs = join(environment, 'bin')
  execFileSync(join(programs, 'pip'), ['install', '--quiet', '--disable-pip-version-check', ...requirements])
  return programs
}

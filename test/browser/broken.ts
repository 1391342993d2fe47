import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Tries every case, or those that are named, with a client of which one line is broken, in Chromium; each has to fail. */
const root = new URL('../..', import.meta.url).pathname
const client = readFileSync(join(root, 'src/pages/client.js'), 'utf8')
const refusals = '[400, 401, 403].includes(reply.status) && reply.body?.code'

/** Case → what is there once, and what it becomes. */
const broken: Record<string, [from: string, to: string]> = {
  '01': ['renewing ??=', 'renewing ='],
  '02 .*at once': ['attempt === 3', 'attempt === 1'],
  '02 .*an hour later': [refusals, '[0, 400, 401, 403].includes(reply.status)'],
  '03': ['AbortSignal.timeout(ms)', 'AbortSignal.timeout(60_000)'],
  '04': ['else if (!lasts(0))', 'else if (end(), false)'],
  '05': ['else if (!lasts(0))', 'else if (end(), false)'],
  '06': ['const init = signOutOf(held, scope);\n            end();', 'const init = signOutOf(held, scope);'],
  '07': ['flight.abort();\n', ''],
  '08': ['isStored = false', 'isStored = true'],
  '09': ["page.addEventListener('storage'", "page.addEventListener('none'"],
  '10': ["page.addEventListener('pagehide'", "page.addEventListener('none'"],
  '11': ['Date.now() + seconds * 1000', "JSON.parse(atob(accessToken.split('.')[1])).exp * 1000"],
  '12': [refusals, '[400, 401, 403].includes(reply.status)'],
  '13': ['isNew && again', 'false'],
  '14': ['reportError(error)', 'throw error'],
  '15': ['dispose() {', 'dispose() { return;'],
  '16': ['sent = held;', 'sent = held; write(undefined);'],
  '17': [refusals, '[0, 400, 401, 403].includes(reply.status)'],
  '18': ['stored.session && stored.generation >= 0', 'stored.session && stored.more === undefined'],
}

const folder = mkdtempSync(join(tmpdir(), 'latchkey-broken-'))
const file = join(folder, 'client.js')
const report = join(folder, 'report.json')
const wanted = process.argv.slice(2)
const chosen = Object.entries(broken).filter(
  ([name]) => wanted.length === 0 || wanted.some((word) => name.startsWith(word)),
)
const rows = chosen.map(([name, [from, to]]) => {
  if (client.split(from).length !== 2) throw new Error(`not there once: ${from}`)
  writeFileSync(
    file,
    client.replace(from, () => to),
  )
  const vitest = join(root, 'node_modules/vitest/vitest.mjs')
  const config = ['--config', 'test/browser/vitest.config.ts']
  spawnSync(
    process.execPath,
    [
      vitest,
      'run',
      ...config,
      'test/browser/chromium.test.ts',
      '-t',
      ` ${name}`,
      '--reporter=json',
      `--outputFile=${report}`,
    ],
    { cwd: root, stdio: 'ignore', timeout: 120_000, env: { ...process.env, CI: '', CLIENT_FILE: file } },
  )
  const { numFailedTests: failed, numPassedTests: passed } = JSON.parse(readFileSync(report, 'utf8')) as Record<
    string,
    number
  >
  console.log(
    `${(failed ?? 0) > 0 ? 'fails' : 'PASSES'}  ${name.padEnd(20)} ${failed} of ${(failed ?? 0) + (passed ?? 0)}   ${from.trim()}`,
  )
  return (failed ?? 0) > 0
})
rmSync(folder, { recursive: true })
if (rows.includes(false)) process.exitCode = 1

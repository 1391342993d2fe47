/**
 * Judges the OpenAPI document of a file or URL (argument, `OPENAPI_URL`), by default the service's own; all offline.
 * The last judge logs in through types made from it, so it has to hold the `kanban` contract without a prefix.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { build } from 'esbuild'
import type { calls } from './calls.ts'
import { buildService } from './document.ts'
import { session } from './session.ts'

const { app, close } = await buildService()
const origin = await app.listen({ host: '127.0.0.1', port: 0 })
const source = process.argv[2] ?? process.env['OPENAPI_URL'] ?? `${origin}/openapi.json`
const document = /^https?:/.test(source) ? await (await fetch(source)).text() : readFileSync(source)

process.chdir(import.meta.dirname)
rmSync('generated', { recursive: true, force: true })
mkdirSync('generated')
const file = './generated/openapi.json'
writeFileSync(file, document)

try {
  // `recommended`, with every warning an error.
  judge('redocly', 'lint', file, '--extends=recommended-strict')
  judge('spectral', 'lint', file, '--fail-severity=hint')
  judge('openapi-typescript', file, '--output=generated/openapi-typescript.ts')
  // What the browser client is typed from.
  judge('openapi-typescript', '../../docs/openapi.json', '--output=generated/client.ts')
  if (readFileSync('generated/client.ts', 'utf8') !== readFileSync('../../client/src/api.ts', 'utf8'))
    throw new Error('client/src/api.ts is of another version; write it with: npm run client')
  judge('openapi-ts', '--input', file, '--output=generated/hey-api', '--client=@hey-api/client-fetch', '--no-log-file')
  judge('orval', '--input', file, '--output=generated/orval.ts', '--client=fetch', '--fail-on-warnings')
  judge('kubb', 'generate', '--config=kubb.config.ts')
  // By its path: a linter above has a program of the same name.
  judge('../openapi-typescript-codegen/bin/index.js', '--input', file, '--output=generated/codegen')
  judge('tsc')
  // Generated code imports without extensions, which Node alone cannot follow.
  const bundle = { entryPoints: ['./calls.ts'], outfile: 'generated/calls.js', bundle: true } as const
  await build({ ...bundle, absWorkingDir: import.meta.dirname, platform: 'node', format: 'esm', logLevel: 'warning' })
  const bundled: { calls: typeof calls } = await import('./generated/calls.js')
  await bundled.calls(origin)
  console.log('ok  calls: a registration by each generated client')
  await session(origin)
  console.log('ok  session: register, log in, refresh, me, log out')
} finally {
  await close()
}

/** Runs a program of this package; says what it said only if it fails. */
function judge(program: string, ...options: string[]): void {
  const env = { ...process.env, REDOCLY_TELEMETRY: 'off', DO_NOT_TRACK: '1', REDOCLY_SUPPRESS_UPDATE_NOTICE: 'true' }
  const args = [`node_modules/.bin/${program}`, ...options]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { env, encoding: 'utf8' })
  const line = [program, ...options].join(' ')
  if (status !== 0) throw new Error(`${line}\n${stdout}${stderr}`)
  console.log(`ok  ${line}`)
}

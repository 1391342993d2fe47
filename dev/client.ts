import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync } from 'node:fs'

/**
 * Builds the browser client, and copies it to where the service serves it from. Its types are made anew of
 * `docs/openapi.json` where the generator is, which is installed with `test/clients`.
 */
const generator = 'test/clients/node_modules/.bin/openapi-typescript'
if (existsSync(generator)) execFileSync(generator, ['docs/openapi.json', '--output', 'client/src/api.ts'])
execFileSync('node_modules/.bin/tsc', ['-p', 'client'], { stdio: 'inherit' })
copyFileSync('client/dist/index.js', 'src/pages/client.js')

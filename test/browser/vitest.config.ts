import { defineConfig } from 'vitest/config'
import base from '../../vitest.config.ts'

/** What takes browsers, other programs or other languages, and minutes: `npm run test:browser`, `test:examples`, `test:deploy`, `test:image`. */
export default defineConfig({
  test: { ...base.test, include: ['test/{browser,deploy,examples,image}/*.test.ts'], exclude: [], maxWorkers: 2 },
})

import { defineConfig } from 'vitest/config'
import base from '../../vitest.config.ts'

/** What takes browsers or other languages, and minutes: `npm run test:browser`, `npm run test:examples`. */
export default defineConfig({
  test: { ...base.test, include: ['test/browser/*.test.ts', 'test/examples/*.test.ts'], exclude: [] },
})

import { defineConfig } from 'vitest/config'
import { retryReporter } from './test/support/retry-reporter.ts'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/{browser,clients,deploy,examples,image}/**'],
    globalSetup: 'test/support/global-setup.ts',
    isolate: false,
    // Many tests wait for processes of their own.
    maxWorkers: 3,
    experimental: { viteModuleRunner: false },
    // Machines that build for others stall now and then; a test that fails twice there is broken.
    retry: process.env['CI'] ? 1 : 0,
    reporters: process.env['CI'] ? ['default', retryReporter] : ['default'],
    testTimeout: 180_000,
    expect: { poll: { timeout: 20_000 } },
    hookTimeout: 180_000,
  },
})

import type { Reporter } from 'vitest/node'

/** Lists in the end which tests have failed once and passed when they were tried again. */
export const retryReporter: Reporter = {
  onTestRunEnd(modules) {
    const names = modules.flatMap(({ children, relativeModuleId }) =>
      [...children.allTests()]
        .filter((test) => test.ok() && (test.diagnostic()?.retryCount ?? 0) > 0)
        .map(({ fullName }) => `  ${relativeModuleId} > ${fullName}`),
    )
    process.stdout.write([`\nFailed once, passed when tried again: ${names.length}`, ...names, ''].join('\n'))
  },
}

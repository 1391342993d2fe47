import { stripVTControlCharacters } from 'node:util'
import type { Reporter, TestCase } from 'vitest/node'

/** Lists in the end which tests have failed once and passed when they were tried again, with what they failed of. */
export const retryReporter: Reporter = {
  onTestRunEnd(modules) {
    const retried = modules.flatMap(({ children, relativeModuleId }) =>
      [...children.allTests()]
        .filter((test) => test.ok() && (test.diagnostic()?.retryCount ?? 0) > 0)
        .map((test) => [`  ${relativeModuleId} > ${test.fullName}`, ...reasonsOf(test)].join('\n')),
    )
    process.stdout.write([`\nFailed once, passed when tried again: ${retried.length}`, ...retried, ''].join('\n'))
  },
}

function reasonsOf(test: TestCase): string[] {
  const errors = test.result().errors ?? []
  return errors.map(({ message, diff = '' }) =>
    stripVTControlCharacters(`${message}\n${diff}`).trim().replace(/^/gm, '    '),
  )
}

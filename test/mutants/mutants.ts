/** One change of the source that a test has to notice. */
export interface Mutant {
  readonly name: string
  readonly file: string
  /** Stands in the file exactly once. */
  readonly from: string
  readonly to: string
  /** The test files of which one fails when the change is in. */
  readonly tests: readonly string[]
}

const at = (file: string, tests: readonly string[], changes: Record<string, readonly [from: string, to: string]>) =>
  Object.entries(changes).map(([name, [from, to]]): Mutant => ({ name, file, from, to, tests }))

const rotation = [
  'test/core/rotation.test.ts',
  'test/core/late-retries.test.ts',
  'test/core/rotation-interleavings.test.ts',
]

export const mutants: readonly Mutant[] = [
  ...at('src/core/rotation.ts', rotation, {
    'rotation: a revoked session is refused': [
      "if (state.sessionRevoked) throw new Problem('refresh_token_revoked')",
      '',
    ],
    'rotation: late retries have a limit': ['lateCount < refreshLateRetries', 'lateCount <= refreshLateRetries'],
  }),
]

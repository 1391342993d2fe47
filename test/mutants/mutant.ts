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

/** The changes of one file by what they take away. */
export function mutantsOf(
  file: string,
  tests: readonly string[],
  changes: Readonly<Record<string, readonly [from: string, to: string]>>,
): Mutant[] {
  return Object.entries(changes).map(([name, [from, to]]) => ({ name, file, from, to, tests }))
}

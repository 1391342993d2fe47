import { afterAll, onTestFinished, TestRunner } from 'vitest'

/** Runs `task` when the test ends that calls this, or else when its file or `describe` ends; the last one first. */
export function cleanUp(task: () => unknown): void {
  const run = async () => void (await task())
  if (TestRunner.getCurrentTest()) onTestFinished(run)
  else afterAll(run)
}

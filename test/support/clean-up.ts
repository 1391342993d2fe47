import { AsyncLocalStorage } from 'node:async_hooks'
import { afterAll, onTestFinished, test, type TestContext, TestRunner } from 'vitest'

const concurrent = new AsyncLocalStorage<TestContext>()

/** Runs `task` when the test ends that calls this, or else when its file or `describe` ends; the last one first. */
export function cleanUp(task: () => unknown): void {
  const run = async () => void (await task())
  const context = concurrent.getStore()
  if (context) context.onTestFinished(run)
  else if (TestRunner.getCurrentTest()) onTestFinished(run)
  else afterAll(run)
}

/** A test that runs beside its neighbours; what it cleans up is its own. */
export function testBeside(name: string, body: (context: TestContext) => Promise<void>): void {
  test.concurrent(name, (context) => concurrent.run(context, () => body(context)))
}

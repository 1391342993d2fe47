import { startEmbeddedPostgres } from '#dev/embedded-postgres/embedded-postgres.ts'

/** Starts Postgres on the folder of the argument and stops it; prints `started`, or why it was not. */
try {
  const { stop } = await startEmbeddedPostgres({ dataDir: process.argv[2] ?? '', settings: { fsync: 'off' } })
  await stop()
  process.stdout.write('started\n')
} catch (error) {
  process.stdout.write(`${error instanceof Error ? error.message : String(error)}\n`)
}

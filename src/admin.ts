import { obey } from '#src/cli/obey.ts'

process.exitCode = await obey(process.argv.slice(2), process.env, process)
// What a lost database leaves behind would keep the process alive.
if (process.exitCode !== 0) process.exit()

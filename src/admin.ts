import { runCommand } from '#src/cli/run-command.ts'

process.exitCode = await runCommand(process.argv.slice(2), process.env, process)
// What a lost database leaves behind would keep the process alive.
if (process.exitCode !== 0) process.exit()

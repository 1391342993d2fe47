import cluster from 'node:cluster'
import { once } from 'node:events'

/** Serves one port with `PROCESSES` copies of the program that the first argument names; for comparison only. */
cluster.setupPrimary({ exec: process.argv[2] ?? '', execArgv: process.execArgv })
const count = Number(process.env['PROCESSES'])
const workers = Array.from({ length: count }, () => cluster.fork())
await Promise.all(workers.map((worker) => once(worker, 'listening')))
process.send?.('listening')

process.on('SIGTERM', () => {
  for (const worker of workers) worker.process.kill('SIGTERM')
})
await Promise.all(workers.map((worker) => once(worker, 'exit')))
process.exit()

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

/** Takes the traces that it is sent, and keeps none; answers with its port when it is asked. */
process.once('message', () => {
  process.once('disconnect', () => process.exit())
  const server = createServer((request, response) => request.resume().on('end', () => response.end()))
  server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port))
})

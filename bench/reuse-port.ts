import { Server } from 'node:http'

/** Lets several processes listen on one port, among which the system (Linux) deals out the connections; for comparison only. */
// oxlint-disable-next-line typescript/unbound-method -- It is called with a server.
const { listen } = Server.prototype
Server.prototype.listen = function (this: Server, options: object, ...rest: never[]) {
  this.once('listening', () => process.send?.('listening'))
  return Reflect.apply(listen, this, [{ ...options, reusePort: true }, ...rest]) as Server
} as typeof listen

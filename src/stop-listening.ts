import { readFileSync } from 'node:fs'
import { type AddressInfo, connect, Server, type Socket } from 'node:net'
import { setTimeout } from 'node:timers/promises'

/** What Node itself uses to listen; `listen` and `getpeername` have no public counterpart that answers at once. */
interface Handle {
  readonly listen: (backlog: number) => number
  readonly getpeername: (name: object) => number
}

const limitMs = 2500
const settleMs = 300
/** What Node asks for. */
const usualBacklog = 511

/**
 * Closes the listening socket while nobody's connection waits in its backlog, because the system resets those that do.
 * A backlog that holds only connections of our own keeps the others out, who are refused a moment later.
 */
export async function stopListening(server: Server): Promise<void> {
  const plugs: Socket[] = []
  const deadline = performance.now() + limitMs
  // The first time only tells the crowd to wait: whoever is kept out tries again after a second.
  await isPlugged(server, plugs)
  do await admitHalves(server)
  while ((!(await isPlugged(server, plugs)) || hasHalves(server)) && performance.now() < deadline)
  // `close` of `http.Server` would close idle connections, too.
  Server.prototype.close.call(server)
  for (const plug of plugs) plug.destroy()
}

/**
 * Whether the backlog holds two of our own and nothing else. A backlog of n is full with n + 1: three of our own go behind
 * whoever waits, and with 1 nobody can follow them; when the first of them is accepted, a fourth fits under a limit of 2
 * only if nobody stands between. The event loop, which accepts, does not turn from there to the answer.
 */
async function isPlugged(server: Server, plugs: Socket[]): Promise<boolean> {
  const handle = handleOf(server)
  const ours = [plugFor(server), plugFor(server), plugFor(server)] as const
  plugs.push(...ours)
  await nextTick()
  handle?.listen(1)
  await Promise.race([accepted(server, ours[0]), setTimeout(settleMs)])
  handle?.listen(2)
  const probe = plugFor(server)
  plugs.push(probe)
  await nextTick()
  return handleOf(probe)?.getpeername({}) === 0
}

/** Lets in whose handshake was cut short when the backlog became full: their system sends again after 200 ms. */
async function admitHalves(server: Server): Promise<void> {
  handleOf(server)?.listen(usualBacklog)
  await setTimeout(settleMs)
}

/** Whether a handshake is under way, as far as the system (Linux) tells: in a full backlog no other can begin. */
function hasHalves(server: Server): boolean {
  const port = (server.address() as AddressInfo).port.toString(16).toUpperCase().padStart(4, '0')
  // proc(5): local address and port, remote ones, state; 03 is SYN_RECV.
  const half = new RegExp(`^ *\\d+: [0-9A-F]+:${port} [0-9A-F]+:[0-9A-F]+ 03 `, 'm')
  return ['/proc/net/tcp', '/proc/net/tcp6'].some((path) => half.test(readIfThere(path)))
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/** Connects to ourselves, in the next tick. */
function plugFor(server: Server): Socket {
  const { address, port } = server.address() as AddressInfo
  const host = { '0.0.0.0': '127.0.0.1', '::': '::1' }[address] ?? address
  return connect({ host, port }).on('error', () => {})
}

function accepted(server: Server, plug: Socket): Promise<void> {
  return new Promise((resolve) => {
    const look = ({ remotePort }: Socket) => {
      if (remotePort !== plug.localPort) return
      server.off('connection', look)
      resolve()
    }
    server.on('connection', look)
  })
}

function nextTick(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve))
}

function handleOf(owner: object): Handle | undefined {
  return Reflect.get(owner, '_handle') as Handle | undefined
}

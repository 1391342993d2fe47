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
/** The states of a connection in proc(5). */
const [established, synReceived, closeWait] = ['01', '03', '08'] as const

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
  while (!(await isPlugged(server, plugs)) && performance.now() < deadline)
  // `close` of `http.Server` would close idle connections, too.
  Server.prototype.close.call(server)
  for (const plug of plugs) plug.destroy()
}

/**
 * Whether the backlog holds three connections of our own and nothing else. A backlog of n is full with n + 1: three of our
 * own go behind whoever waits, and with 1 nobody can follow them; when the first of them is accepted, a fourth fits under a
 * limit of 2 only if nobody stands between. The event loop, which accepts, does not turn from there to the answer.
 */
async function isPlugged(server: Server, plugs: Socket[]): Promise<boolean> {
  const handle = handleOf(server)
  const cookies = synCookiesSent()
  const ours = [plugFor(server), plugFor(server), plugFor(server)] as const
  plugs.push(...ours)
  await nextTick()
  handle?.listen(1)
  await Promise.race([accepted(server, ours[0]), setTimeout(settleMs)])
  handle?.listen(2)
  const probe = plugFor(server)
  plugs.push(probe)
  await nextTick()
  if (handleOf(probe)?.getpeername({}) !== 0) return false
  // Two handshakes that end on two processors at once both find a place where there is one.
  const waiting = whoWaits(server)
  if (waiting === undefined) return true
  const held = [...ours, probe].filter((plug) => waiting.get(plug.localPort) === established)
  for (const plug of plugs) waiting.delete(plug.localPort)
  return held.length === 3 && waiting.size === 0 && synCookiesSent() === cookies
}

/** Lets in whose handshake was cut short when the backlog became full: their system sends again after 200 ms. */
async function admitHalves(server: Server): Promise<void> {
  handleOf(server)?.listen(usualBacklog)
  await setTimeout(settleMs)
}

/**
 * The state of each connection to the server that nobody has accepted, by the port of its client; handshakes under way are
 * among them. Undefined where the system (other than Linux) does not tell.
 */
function whoWaits(server: Server): Map<number | undefined, string> | undefined {
  const { port } = server.address() as AddressInfo
  const table = readIfThere('/proc/net/tcp') + readIfThere('/proc/net/tcp6')
  if (table === '') return undefined
  const waiting = new Map<number | undefined, string>()
  for (const line of table.split('\n')) {
    // proc(5): number, local address, remote one, state, queues, timer, retransmissions, user, time-outs, inode.
    const [, local, remote, state = '', , , , , , inode] = line.trim().split(/\s+/)
    const unowned = state === synReceived || (inode === '0' && (state === established || state === closeWait))
    if (unowned && portOf(local) === port) waiting.set(portOf(remote), state)
  }
  return waiting
}

function portOf(address = ''): number {
  return Number.parseInt(address.split(':')[1] ?? '', 16)
}

/**
 * How many handshakes the system (Linux) has answered without keeping a note of them (RFC 4987 §3.6), as it does while
 * more are under way than the backlog holds: one that ends at a full backlog is seen nowhere.
 */
function synCookiesSent(): string | undefined {
  // proc(5): a line of names, then a line of numbers.
  const [names = [], numbers = []] = readIfThere('/proc/net/netstat')
    .split('\n', 2)
    .map((line) => line.split(' '))
  return numbers[names.indexOf('SyncookiesSent')]
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

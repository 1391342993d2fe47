import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

/** A machine of the trial: a network namespace with a cable to its peers and one to those who use it. */
export interface Node {
  readonly name: string
  /** Where the other nodes and etcd find it. */
  readonly peerAddress: string
  /** Where the service finds it. */
  readonly clientAddress: string
}

const cables = [
  { bridge: 'peers', device: 'eth0', network: '10.77.1' },
  { bridge: 'clients', device: 'eth1', network: '10.77.2' },
] as const

/** Makes two networks and joins nodes to both; who calls is the host 254 in either. */
export function layNetworks(count: number): Node[] {
  ip('link set lo up')
  for (const { bridge, network } of cables) {
    ip(`link add ${bridge} type bridge`)
    ip(`addr add ${network}.254/24 dev ${bridge}`)
    ip(`link set ${bridge} up`)
  }
  return Array.from({ length: count }, (_, i) => addNode(i + 1))
}

function addNode(number: number): Node {
  const name = `node${number}`
  ip(`netns add ${name}`)
  ip(`-n ${name} link set lo up`)
  for (const { bridge, device, network } of cables) {
    ip(`link add ${name}-${device} type veth peer name ${device} netns ${name}`)
    ip(`link set ${name}-${device} master ${bridge} up`)
    ip(`-n ${name} addr add ${network}.${number}/24 dev ${device}`)
    ip(`-n ${name} link set ${device} up`)
  }
  const [peers, clients] = cables
  return { name, peerAddress: `${peers.network}.${number}`, clientAddress: `${clients.network}.${number}` }
}

/** Pulls the cable to its peers and etcd, and with `also` the one to those who use it; packets then go nowhere. */
export function cutOff({ name }: Node, also?: 'clients'): void {
  for (const { bridge, device } of cables)
    if (bridge === 'peers' || bridge === also) ip(`link set ${name}-${device} nomaster`)
}

/** Plugs in what `cutOff` pulled. */
export function joinAgain({ name }: Node): void {
  for (const { bridge, device } of cables) ip(`link set ${name}-${device} master ${bridge}`)
}

/** Sends a signal to the processes of a node, or to those of them with this name; throws when there is none. */
export function signalNode({ name }: Node, signal: NodeJS.Signals, only?: RegExp): void {
  const pids = ip(`netns pids ${name}`).split('\n').filter(Boolean).map(Number)
  const chosen = pids.filter((pid) => only === undefined || only.test(nameOf(pid)))
  if (chosen.length === 0) throw new Error(`no process of ${name} is there to get a ${signal}`)
  for (const pid of chosen) {
    try {
      process.kill(pid, signal)
    } catch (error) {
      // It ended by itself meanwhile, as the children of one that was killed do.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
}

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim()
  } catch {
    return ''
  }
}

function ip(words: string): string {
  return execFileSync('ip', words.split(' '), { encoding: 'utf8' })
}

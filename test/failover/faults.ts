import { setTimeout } from 'node:timers/promises'
import type { Cluster } from './cluster.ts'
import { cutOff, joinAgain, type Node, signalNode } from './network.ts'
import { until } from './processes.ts'
import type { Service } from './service.ts'

/** What can be broken. */
export interface Machines {
  readonly cluster: Cluster
  readonly service: Service
}

export interface Fault {
  /** One word, by which it can be chosen. */
  readonly key: string
  readonly name: string
  /** Breaks something, and resolves when it is healed; how long that takes is up to those who repair themselves. */
  readonly happen: (machines: Machines) => Promise<void>
}

const frozenMs = 30_000

async function nodeWith(cluster: Cluster, role: 'leader' | 'sync_standby'): Promise<Node> {
  return until(`a ${role}`, 30, () => cluster.nodeOf(role))
}

/** Until another node has the role. */
async function cutOffWithRole(cluster: Cluster, role: 'leader' | 'sync_standby', also?: 'clients'): Promise<void> {
  const node = await nodeWith(cluster, role)
  cutOff(node, also)
  await cluster.replaced(role, node)
  joinAgain(node)
}

/** In the order in which they happen. */
export const faults: readonly Fault[] = [
  {
    key: 'partition',
    name: 'the primary is cut off from its peers and etcd, not from the service',
    happen: ({ cluster }) => cutOffWithRole(cluster, 'leader'),
  },
  {
    key: 'kill',
    name: 'kill -9 of the PostgreSQL of the primary',
    happen: async ({ cluster }) => {
      signalNode(await nodeWith(cluster, 'leader'), 'SIGKILL', /^postgres$/)
    },
  },
  {
    key: 'crash',
    name: 'kill -9 of everything on the primary’s node',
    happen: async ({ cluster }) => {
      const primary = await nodeWith(cluster, 'leader')
      signalNode(primary, 'SIGKILL')
      await cluster.replaced('leader', primary)
      cluster.startEtcd(primary)
      cluster.startPatroni(primary)
    },
  },
  {
    key: 'freeze',
    name: 'everything on the primary’s node stands still for 30 s',
    happen: async ({ cluster }) => {
      const primary = await nodeWith(cluster, 'leader')
      signalNode(primary, 'SIGSTOP')
      await setTimeout(frozenMs)
      signalNode(primary, 'SIGCONT')
    },
  },
  {
    key: 'standby',
    name: 'the synchronous standby is cut off',
    happen: ({ cluster }) => cutOffWithRole(cluster, 'sync_standby', 'clients'),
  },
  {
    key: 'etcd',
    name: 'kill -9 of the leader of etcd',
    happen: async ({ cluster }) => {
      const leader = await until('a leader of etcd', 30, () => cluster.etcdLeader())
      signalNode(leader, 'SIGKILL', /^etcd$/)
      await until('another leader of etcd', 30, async () => {
        const node = await cluster.etcdLeader()
        return node !== undefined && node !== leader
      })
      cluster.startEtcd(leader)
    },
  },
  {
    key: 'switchover',
    name: 'a planned switchover',
    happen: ({ cluster }) => cluster.switchOver(),
  },
  {
    key: 'instance',
    name: 'kill -9 of an instance of the service',
    happen: ({ service }) => service.killInstance(),
  },
  {
    key: 'reload',
    name: 'the load balancer is reloaded',
    happen: ({ service }) => service.reloadBalancer(),
  },
]

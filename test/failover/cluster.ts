import { mkdirSync, writeFileSync } from 'node:fs'
import { execFileSync } from 'node:child_process'
import type { Node } from './network.ts'
import { ask, root, start, until } from './processes.ts'

const bin = '/usr/lib/postgresql/15/bin'
/** The shortest that Patroni's manual allows for `ttl`; a primary that cannot reach etcd steps down after `retry_timeout`. */
const timing = { ttl: 20, loop_wait: 1, retry_timeout: 5 }

export interface Member {
  readonly name: string
  readonly role: string
  readonly state: string
  readonly timeline?: number
  readonly lag?: number | string
}

/** Three nodes with etcd, Patroni and PostgreSQL each. */
export class Cluster {
  readonly nodes: readonly Node[]
  #isSynchronous = true

  constructor(nodes: readonly Node[]) {
    this.nodes = nodes
  }

  /** As the service is told where the database is (docs/operations.md). */
  get url(): string {
    const hosts = this.nodes.map(({ clientAddress }) => `${clientAddress}:5432`)
    return `postgres://postgres@${hosts.join()}/postgres?target_session_attrs=primary`
  }

  async start(): Promise<void> {
    for (const node of this.nodes) {
      mkdirSync(`${root}/${node.name}`, { recursive: true })
      writeFileSync(`${root}/${node.name}/patroni.json`, JSON.stringify(this.#settingsOf(node)))
      execFileSync('chown', ['postgres', `${root}/${node.name}`])
      this.startEtcd(node)
    }
    for (const node of this.nodes) this.startPatroni(node)
    await this.whole(180)
  }

  startEtcd({ name, peerAddress: address }: Node): void {
    const peers = this.nodes.map((node) => `${node.name}=http://${node.peerAddress}:2380`)
    const settings = {
      name,
      'data-dir': `${root}/${name}/etcd`,
      'listen-peer-urls': `http://${address}:2380`,
      'initial-advertise-peer-urls': `http://${address}:2380`,
      'listen-client-urls': `http://${address}:2379`,
      'advertise-client-urls': `http://${address}:2379`,
      'initial-cluster': peers.join(),
      // A machine that others use, too, may stand still for some hundred milliseconds.
      'heartbeat-interval': 300,
      'election-timeout': 3000,
      'pre-vote': true,
      'enable-v2': true,
    }
    const flags = Object.entries(settings).map(([key, value]) => `--${key}=${value}`)
    start(`${name}-etcd`, ['ip', 'netns', 'exec', name, 'etcd', ...flags])
  }

  startPatroni({ name }: Node): void {
    const asPostgres = ['runuser', '-u', 'postgres', '--', 'patroni', `${root}/${name}/patroni.json`]
    start(`${name}-patroni`, ['ip', 'netns', 'exec', name, ...asPostgres])
  }

  /** The nodes as Patroni sees them, asked of any that answers. */
  async members(): Promise<readonly Member[]> {
    const asked = this.nodes.map(({ peerAddress }) =>
      ask<{ members: Member[] }>(`http://${peerAddress}:8008/cluster`).then((reply) => reply ?? Promise.reject()),
    )
    return Promise.any(asked).then(
      ({ members }) => members,
      () => [],
    )
  }

  async nodeOf(role: 'leader' | 'sync_standby'): Promise<Node | undefined> {
    const members = await this.members()
    return this.nodes.find(({ name }) => members.some((member) => member.name === name && member.role === role))
  }

  /** Waits until another node than `before` has the role. */
  async replaced(role: 'leader' | 'sync_standby', before: Node): Promise<Node> {
    return until(`another ${role} than ${before.name}`, 90, async () => {
      const node = await this.nodeOf(role)
      return node === before ? undefined : node
    })
  }

  /** Waits until every node runs and follows the primary, one of them synchronously if that is asked for. */
  async whole(seconds = 120): Promise<void> {
    await until('a whole cluster', seconds, async () => {
      const members = await this.members()
      const primary = members.find(({ role }) => role === 'leader')
      const follow = members.filter(({ lag }) => lag === 0)
      const isWell = members.every(({ state, timeline }) => state === 'running' && timeline === primary?.timeline)
      const isAsked = !this.#isSynchronous || members.some(({ role }) => role === 'sync_standby')
      return primary && follow.length === this.nodes.length - 1 && isWell && isAsked
    })
  }

  async etcdLeader(): Promise<Node | undefined> {
    for (const node of this.nodes) {
      const status = await ask<{ leader?: string; header: { member_id: string } }>(
        `http://${node.peerAddress}:2379/v3/maintenance/status`,
        {},
      )
      if (status !== undefined && status.leader === status.header.member_id) return node
    }
  }

  async switchOver(): Promise<void> {
    const [leader, candidate] = [await this.nodeOf('leader'), await this.nodeOf('sync_standby')]
    if (!leader || !candidate) throw new Error('there is nobody to switch over to')
    const asked = { leader: leader.name, candidate: candidate.name }
    // It answers in words when it is done, which may take longer than an answer may; asked again later it refuses.
    await until('a switchover', 90, async () => {
      await ask(`http://${leader.peerAddress}:8008/switchover`, asked)
      const node = await this.nodeOf('leader')
      return node !== undefined && node !== leader
    })
  }

  /** Replication without waiting for it, as the control has it. */
  async makeAsynchronous(): Promise<void> {
    this.#isSynchronous = false
    const [node] = this.nodes
    const asked = { synchronous_mode: false, synchronous_mode_strict: false }
    await until('no synchronous standby', 30, async () => {
      await ask(`http://${node?.peerAddress}:8008/config`, asked, 'PATCH')
      const members = await this.members()
      return members.length > 0 && !members.some(({ role }) => role === 'sync_standby')
    })
    await this.whole()
  }

  #settingsOf({ name, peerAddress }: Node): object {
    const folder = `${root}/${name}`
    return {
      scope: 'latchkey',
      name,
      restapi: { listen: `${peerAddress}:8008`, connect_address: `${peerAddress}:8008` },
      // By version 3 of the protocol, Patroni 3.0 writes its name over that of a new primary when it comes back.
      etcd: { hosts: this.nodes.map((node) => `${node.peerAddress}:2379`) },
      bootstrap: {
        dcs: {
          ...timing,
          synchronous_mode: true,
          synchronous_mode_strict: true,
          postgresql: { use_pg_rewind: true, parameters },
        },
        initdb: [{ encoding: 'UTF8' }, { locale: 'C' }],
      },
      postgresql: {
        listen: '0.0.0.0:5432',
        connect_address: `${peerAddress}:5432`,
        data_dir: `${folder}/data`,
        bin_dir: bin,
        pgpass: `${folder}/pgpass`,
        pg_hba: ['local all all trust', 'host all all all trust', 'host replication all all trust'],
        authentication: { superuser: { username: 'postgres' }, replication: { username: 'postgres' } },
        parameters: { unix_socket_directories: folder },
      },
    }
  }
}

/** A peer that says nothing for five seconds is taken for dead, in place of a minute. */
const parameters = {
  wal_sender_timeout: '5s',
  wal_receiver_timeout: '5s',
  shared_buffers: '64MB',
  max_wal_size: '256MB',
}

import { setTimeout } from 'node:timers/promises'
import type postgres from 'postgres'
import { connectAlone } from '#src/db/connect-alone.ts'

type Row = Record<string, string>

const everyMs = 50

/** Looks again and again what PgBouncer and the server say of the connections of a role; `stop` resolves to the most that was seen. */
export function watchPools(consoleUrl: string, owner: postgres.Sql, role: string) {
  const pooler = connectAlone(consoleUrl)
  const show = async (what: string): Promise<Row[]> => [...(await pooler.unsafe<Row[]>(`show ${what}`))]
  const most = { clients: 0, servers: 0, backends: 0 }
  const modes = new Set<string>()

  const look = async () => {
    for (const pool of (await show('pools')).filter(({ user }) => user === role)) {
      modes.add(pool['pool_mode'] ?? '')
      most.clients = Math.max(most.clients, sumOf(pool, 'cl_active', 'cl_waiting'))
      most.servers = Math.max(most.servers, sumOf(pool, 'sv_active', 'sv_idle', 'sv_used', 'sv_tested', 'sv_login'))
    }
    const [row] = await owner<{ count: number }[]>`
      select count(*)::integer as count from pg_stat_activity where usename = ${role}`
    most.backends = Math.max(most.backends, row?.count ?? 0)
  }

  let isOver = false
  const looking = (async () => {
    for (;;) {
      if (isOver) return
      await look()
      await setTimeout(everyMs)
    }
  })()
  return {
    stop: async () => {
      isOver = true
      await looking
      const totals = await show('stats_totals')
      const total = (name: string) => totals.reduce((sum, row) => sum + sumOf(row, name), 0)
      await pooler.end({ timeout: 1 })
      return {
        ...most,
        modes: [...modes],
        transactions: total('xact_count'),
        prepared: total('server_parse_count'),
        runs: total('bind_count'),
      }
    },
  }
}

function sumOf(row: Row, ...names: string[]): number {
  return names.reduce((sum, name) => sum + Number(row[name]), 0)
}

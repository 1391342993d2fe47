import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { ConfigError } from '#src/config.ts'
import { requireAccessMark } from './authenticate.ts'
import { components } from './fields.ts'
import kanban from './kanban.ts'

export interface ContractOptions {
  /** Cookies are for HTTPS only. */
  readonly secureCookies: boolean
}

/** A contract is one plugin, or a few where one file would be too long. */
const contracts: Record<string, { plugins: FastifyPluginAsync<ContractOptions>[]; prefix: string }> = {
  kanban: { plugins: [kanban], prefix: '/api/v1' },
}

/** Mounts the contracts that are named, such as `kanban` or `kanban:/prefix`. */
export default fp<ContractOptions & { contracts: string }>(
  async (app, { contracts: names, ...options }) => {
    app.decorateRequest('auth', null)
    for (const component of components) app.addSchema(component)
    for (const entry of names.split(',')) {
      const [name = '', mountedAt = ''] = entry.trim().split(':')
      const contract = contracts[name]
      if (!contract) throw new ConfigError([`CONTRACTS: must be a list of ${Object.keys(contracts).join(', ')}`])
      await app.register(async (scope) => {
        requireAccessMark(scope)
        for (const plugin of contract.plugins)
          await scope.register(plugin, { ...options, prefix: `${mountedAt}${contract.prefix}` })
      })
    }
  },
  { name: 'routes', dependencies: ['core', 'rate-limit', 'headers', 'bodies'] },
)

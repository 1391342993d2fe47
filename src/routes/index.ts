import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { ConfigError } from '#src/config.ts'
import aiChat from './ai-chat.ts'
import authRegister from './auth-register.ts'
import authSignup from './auth-signup.ts'
import { requireAccessMark } from './authenticate.ts'
import { components } from './fields.ts'
import kanban from './kanban.ts'
import kanbanAccount from './kanban-account.ts'
import kanbanAdmin from './kanban-admin.ts'
import kanbanRecovery from './kanban-recovery.ts'
import llmOptimizer from './llm-optimizer.ts'
import oauth from './oauth.ts'

export interface ContractOptions {
  /** Cookies are for HTTPS only. */
  readonly secureCookies: boolean
  readonly issuer: string
  readonly audience: string
  /** Client id → secret. */
  readonly oauthClients: ReadonlyMap<string, string>
}

interface Contract {
  /** One plugin, or a few where one file would be too long. */
  readonly plugins: FastifyPluginAsync<ContractOptions>[]
  readonly prefix: string
}

const contracts: Record<string, Contract> = {
  kanban: { plugins: [kanban, kanbanAccount, kanbanAdmin, kanbanRecovery], prefix: '/api/v1' },
  'llm-optimizer': { plugins: [llmOptimizer], prefix: '' },
  'ai-chat': { plugins: [aiChat], prefix: '' },
  'auth-signup': { plugins: [authSignup], prefix: '/auth' },
  'auth-register': { plugins: [authRegister], prefix: '/auth' },
  oauth: { plugins: [oauth], prefix: '' },
}

/** A contract at its place. */
interface Mount extends Contract {
  readonly name: string
}

const entryShape = /^([a-z-]+)(?::((?:\/[A-Za-z0-9_-][A-Za-z0-9._~-]*)+))?$/

/** Reads a list such as `kanban,ai-chat:/chat`; throws one `ConfigError` that names every fault. */
function mountsOf(list: string): Mount[] {
  const faults: string[] = []
  const mounts = new Map<string, Mount>()
  for (const entry of list.split(',').map((text) => text.trim())) {
    const [, name = '', mountedAt = ''] = entryShape.exec(entry) ?? []
    const contract = Object.hasOwn(contracts, name) ? contracts[name] : undefined
    if (name === '') faults.push('CONTRACTS: must be a list of contracts, each with a prefix or without: name:/prefix')
    else if (!contract) faults.push(`CONTRACTS: must be a list of ${Object.keys(contracts).join(', ')}`)
    else if (mounts.has(name)) faults.push(`CONTRACTS: ${name} is listed twice`)
    else mounts.set(name, { ...contract, name, prefix: `${mountedAt}${contract.prefix}` })
  }
  if (faults.length > 0) throw new ConfigError([...new Set(faults)])
  return [...mounts.values()]
}

/** Mounts the contracts that are listed. */
export default fp<ContractOptions & { contracts: string }>(
  async (app, { contracts: list, ...options }) => {
    app.decorateRequest('auth', null)
    for (const component of components) app.addSchema(component)
    const owners = new Map<string, string>()
    for (const { name, plugins, prefix } of mountsOf(list))
      await app.register(async (scope) => {
        requireAccessMark(scope)
        requireFreePaths(scope, name, owners)
        for (const plugin of plugins) await scope.register(plugin, { ...options, prefix })
      })
  },
  { name: 'routes', dependencies: ['core', 'rate-limit', 'headers', 'bodies'] },
)

/** Fails the start, with the cure, for a path that is served already; before Fastify's own words for it. */
function requireFreePaths(scope: FastifyInstance, name: string, owners: Map<string, string>): void {
  scope.addHook('onRoute', ({ url: path, method: methods }) => {
    const url = path.length > 1 ? path.replace(/\/$/, '') : path
    for (const method of [methods].flat().filter((method) => method !== 'HEAD')) {
      const taken = [url, `${url}/`].some((url) => scope.hasRoute({ method, url }))
      const owner = owners.get(`${method} ${url}`) ?? (taken ? 'the service itself' : undefined)
      if (owner !== undefined && owner !== name)
        throw new ConfigError([
          `CONTRACTS: ${owner} and ${name} both serve ${method} ${url}; mount one under a prefix, such as ${name}:/${name}.`,
        ])
      owners.set(`${method} ${url}`, name)
    }
  })
}

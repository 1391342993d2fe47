import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import { ConfigError } from '#src/config.ts'
import type { Mount } from '#src/contracts.ts'
import aiChat from '#src/routes/compat/ai-chat.ts'
import authRegister from '#src/routes/compat/auth-register.ts'
import authSignup from '#src/routes/compat/auth-signup.ts'
import llmOptimizer from '#src/routes/compat/llm-optimizer.ts'
import type { ContractOptions } from '#src/routes/contract.ts'
import oauth from '#src/routes/oauth/index.ts'
import oauthMetadata from '#src/routes/oauth/metadata.ts'
import v1 from '#src/routes/v1/index.ts'

interface Contract {
  readonly plugin: FastifyPluginAsync<ContractOptions>
  readonly prefix: string
  /** Has paths that a specification wants outside of every prefix, and is told where the contract is mounted. */
  readonly wellKnown?: FastifyPluginAsync<ContractOptions & { at: string }>
}

const contracts: Record<Mount['name'], Contract> = {
  kanban: { plugin: v1, prefix: '/api/v1' },
  'llm-optimizer': { plugin: llmOptimizer, prefix: '' },
  'ai-chat': { plugin: aiChat, prefix: '' },
  'auth-signup': { plugin: authSignup, prefix: '/auth' },
  'auth-register': { plugin: authRegister, prefix: '/auth' },
  oauth: { plugin: oauth, wellKnown: oauthMetadata, prefix: '' },
}

/** Mounts the canonical API and the contracts that are listed. */
export async function mountContracts(
  app: FastifyInstance,
  mounts: readonly Mount[],
  options: ContractOptions,
): Promise<void> {
  const owners = new Map<string, string>()
  for (const { name, at } of mounts)
    await app.register(async (scope) => {
      const { plugin, prefix, wellKnown } = contracts[name]
      requireFreePaths(scope, name, owners)
      await scope.register(plugin, { ...options, prefix: `${at}${prefix}` })
      if (wellKnown) await scope.register(wellKnown, { ...options, at: `${at}${prefix}` })
    })
}

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

/** The contracts that there are; `routes/mounts.ts` has their plugins. */
const contractNames = ['kanban', 'llm-optimizer', 'ai-chat', 'auth-signup', 'auth-register', 'oauth'] as const

/** A contract and where it is mounted: nothing, or a path such as `/chat`. */
export interface Mount {
  readonly name: (typeof contractNames)[number]
  readonly at: string
}

const entryShape = /^([a-z-]+)(?::((?:\/[A-Za-z0-9_-][A-Za-z0-9._~-]*)+))?$/

/**
 * Reads a list such as `kanban,ai-chat:/chat`; adds what is wrong with it to `faults`. The canonical API, which is the
 * contract `kanban`, is there whether it is listed or not: at its own paths, if no prefix is given.
 */
export function readContracts(list: string, faults: string[]): Mount[] {
  const found = new Set<string>()
  const mounts = new Map<string, Mount>()
  for (const entry of list.split(',').map((text) => text.trim())) {
    const [, word = '', at = ''] = entryShape.exec(entry) ?? []
    const name = contractNames.find((known) => known === word)
    if (word === '') found.add('CONTRACTS: must be a list of contracts, each with a prefix or without: name:/prefix')
    else if (!name) found.add(`CONTRACTS: must be a list of ${contractNames.join(', ')}`)
    else if (mounts.has(name)) found.add(`CONTRACTS: ${name} is listed twice`)
    else mounts.set(name, { name, at })
  }
  if (!mounts.has('kanban')) mounts.set('kanban', { name: 'kanban', at: '' })
  faults.push(...found)
  return [...mounts.values()]
}

import { readContracts } from '#src/contracts.ts'
import { group, listOf, optional, setting, switchedOn, text } from '#src/settings.ts'

const clients = '[A-Za-z0-9._-]+:[^\\s:,]{16,}'
const example = 'Which APIs are served (docs/contracts.md), and who may introspect (client:secret).'

/** What is served, and to which backends. */
export const routeSettings = group(
  {
    contracts: setting('CONTRACTS', text('kanban,oauth'), {
      says:
        'the [APIs](docs/contracts.md) to mount, each optionally under a prefix: `kanban:/prefix`; ' +
        "`kanban`, the service's own, is always there",
      example,
    }),
    /** Client id → secret, for introspection. */
    oauthClients: setting('OAUTH_CLIENTS', optional(`^${clients}(,${clients})*$`), {
      says:
        'backends that may introspect tokens and ' +
        '[say the address of their users](docs/operations.md#backends-that-speak-for-users): ' +
        '`id:secret,id2:secret2`, secrets of 16 characters or more',
      example,
      secret: true,
      read: (list): ReadonlyMap<string, string> =>
        new Map(listOf(list).map((pair) => pair.split(':', 2) as [string, string])),
    }),
    docs: switchedOn('DOCS', { says: '`off`: no `/docs` and `/openapi.json`' }),
  },
  ({ contracts, ...rest }, { faults }) => ({ ...rest, contracts: readContracts(contracts, faults) }),
)

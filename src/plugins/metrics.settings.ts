import { group, howToMakeOne, oneOf, optional, setting } from '#src/settings.ts'

/** Who may read `/metrics`. */
export const metricsSettings = group(
  {
    access: setting('METRICS', oneOf(['on', 'open', 'off'], 'on'), {
      says: '`on`: `/metrics` asks for `METRICS_TOKEN`; `open`: for nothing; `off`: no `/metrics`',
    }),
    token: setting('METRICS_TOKEN', optional('^[A-Za-z0-9._~+/=-]{16,}$'), {
      says: 'Bearer token for `/metrics`, 16 characters or more',
      without: 'open in development, 401 in production',
      example: howToMakeOne,
      secret: true,
    }),
  },
  ({ access, token }, { production, faults, warnings }) => {
    if (access === 'open' && token !== undefined)
      faults.push('METRICS_TOKEN: is never asked for with METRICS=open; leave one of them out')
    const isUnreadable = access === 'on' && token === undefined
    if (production && isUnreadable)
      warnings.push('METRICS_TOKEN: is not set; /metrics answers 401 to all. Set it, or METRICS to open or off')
    return { access: isUnreadable && !production ? ('open' as const) : access, token }
  },
)

import { group, optional, setting, switchedOn, whole } from '#src/settings.ts'
import { redisUrlFault } from '#src/urls.ts'

const example = 'Limits a minute, when the defaults of the README do not fit.'
const perMinute = (name: string, byDefault: number, says: string) =>
  setting(name, whole(1, 1_000_000, byDefault), { says, example })

/** Whether and where requests are counted, and the limits that a deployment sets. */
export const limitSettings = group(
  {
    on: switchedOn('RATE_LIMITS', { says: '`off`: no limits, for tests only' }),
    requests: perMinute(
      'LIMIT_REQUESTS_PER_MINUTE',
      3000,
      '[limit](docs/security.md#limits) on the requests of an address, or of a session',
    ),
    logins: perMinute('LIMIT_LOGINS_PER_MINUTE', 50, 'limit on the logins of an address'),
    refreshes: perMinute('LIMIT_REFRESHES_PER_MINUTE', 300, 'limit on the refreshes of an address'),
    checks: perMinute(
      'LIMIT_CHECKS_PER_MINUTE',
      60_000,
      'limit on `/validate` for a session, and on `/oauth/introspect` and `/oauth/revoke` for a client of `OAUTH_CLIENTS`',
    ),
    redisUrl: setting('REDIS_URL', optional(), {
      says: 'shared counters for the limits of several instances',
      without: 'in memory',
      secret: true,
      fault: redisUrlFault,
    }),
  },
  ({ on, redisUrl, ...perMinute }, { warnings }) => {
    if (!on) warnings.push('RATE_LIMITS: are off; passwords can be guessed without a limit')
    return { on, redisUrl, perMinute }
  },
)

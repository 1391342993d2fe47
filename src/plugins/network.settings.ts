import { isIP } from 'node:net'
import { group, listOf, optional, setting } from '#src/settings.ts'
import { originsFault } from '#src/urls.ts'
import { Type } from 'typebox'

/** What stands between the service and its clients: proxies and browsers. */
export const networkSettings = group(
  {
    trustedProxies: setting('TRUSTED_PROXIES', optional(), {
      says: "your reverse proxies as a comma-separated CIDR list; only they may name the client's address",
      example:
        'Your reverse proxy as this container sees it, in CIDR notation: 172.16.0.0/12 for one on the same host.',
      fault: (list) =>
        listOf(list).every(isCidr)
          ? undefined
          : 'must be a comma-separated list of addresses in CIDR notation, such as 10.0.0.0/8',
      read: listOf,
    }),
    corsOrigins: setting('CORS_ORIGINS', optional(), {
      says: 'comma-separated origins that browsers may call from',
      example: 'Origins of your browser apps, with commas between them: https://app.example.com',
      fault: originsFault,
      read: listOf,
    }),
    hsts: setting('HSTS', Type.Unsafe<'on' | 'off' | undefined>({ type: 'string', enum: ['on', 'off'] }), {
      says: '`on` or `off`: Strict-Transport-Security for one year',
      without: '`on` in production',
    }),
  },
  ({ hsts, ...rest }, { production }) => ({ ...rest, hsts: hsts === undefined ? production : hsts === 'on' }),
)

function isCidr(text: string): boolean {
  const [address = '', bits, ...rest] = text.split('/')
  const width = { 4: 32, 6: 128 }[isIP(address)]
  if (width === undefined || rest.length > 0) return false
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) > 0 && Number(bits) <= width)
}

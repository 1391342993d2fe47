/** Says why a URL cannot be used later, without showing it; `undefined`: it can. */
type Judge = (url: string) => string | undefined

const withPassword = 'special characters of the password are written as %XX'

export const publicUrlFault = judge(
  /^https?:\/\/[^\s?#]*[^\s?#/]$/,
  'a URL such as https://auth.example.com, without a slash at the end, a query or a fragment',
)
export const pageUrlFault = judge(
  /^https?:\/\/[^\s]+$/,
  'a URL such as https://app.example.com/reset, where {token} may stand for the token',
)
export const smtpUrlFault = judge(
  /^smtps?:\/\/(?:[^@]*@)?[^@/?#]/,
  `a URL such as smtp://user:password@mail.example.com:587; ${withPassword}`,
)
export const redisUrlFault = judge(
  /^rediss?:\/\//,
  `a URL such as redis://:password@redis.example.com:6379; ${withPassword}`,
)
export const collectorUrlFault = judge(
  /^https?:\/\/[^\s?#]+$/,
  'a URL such as http://collector:4318, without a query or a fragment',
)
const singleDatabaseFault = judge(
  /^postgres(ql)?:\/\//,
  `a URL such as postgres://user:password@host:5432/database; ${withPassword}`,
)

/** As the others, for that of a database, which may name several hosts as libpq does: `h1:5432,h2:5432`. */
export function databaseUrlFault(url: string): string | undefined {
  if (/[?&]host=[^/&][^&]*(,|%2C)/i.test(url))
    return 'names several hosts in ?host=; write h1:5432,h2:5432 in the place of the host'
  const fault = urlsOfHosts(url)
    .map(singleDatabaseFault)
    .find((sentence) => sentence !== undefined)
  if (fault !== undefined) return fault
  const [, wanted = 'primary'] = /[?&]target_session_attrs=([^&]*)/.exec(url) ?? []
  return wanted === 'primary' ? undefined : 'takes no target_session_attrs but primary: the service has to write'
}

/** The URL of a database once for each host that it names. */
export function urlsOfHosts(url: string): string[] {
  const [, start = '', hosts = '', rest = ''] = /^(\w+:\/\/(?:[^@/?#]*@)?)([^/?#]*)(.*)$/s.exec(url) ?? []
  return hosts.includes(',') ? hosts.split(',').map((host) => start + host + rest) : [url]
}

/** As the others, for a list of origins. */
export function originsFault(list: string): string | undefined {
  if (list.split(',').every((origin) => isOrigin(origin.trim()))) return undefined
  return 'must be a comma-separated list of origins as browsers write them: https://app.example.com'
}

function judge(form: RegExp, words: string): Judge {
  return (text) => {
    const url = text.replaceAll('{token}', 'x')
    return form.test(url) && isUsable(url) ? undefined : `must be ${words}`
  }
}

/** Whether the URL can be parsed, and its user and password be decoded. */
function isUsable(text: string): boolean {
  try {
    const { username, password } = new URL(text)
    decodeURIComponent(username + password)
    return true
  } catch {
    return false
  }
}

/** RFC 6454 §6.2: an origin has no path, no capitals and no port that goes without saying. */
function isOrigin(text: string): boolean {
  return /^https?:/.test(text) && URL.parse(text)?.origin === text
}

/** The settings that hold URLs, as they stand in the environment. */
type UrlSettings = Partial<Record<keyof typeof forms | 'DATABASE_URL' | 'CORS_ORIGINS', string>>

const page = 'a URL such as https://app.example.com/reset, where {token} may stand for the token'
const withPassword = 'special characters of the password are written as %XX'

const forms = {
  PUBLIC_URL: [
    /^https?:\/\/[^\s?#]*[^\s?#/]$/,
    'a URL such as https://auth.example.com, without a slash at the end, a query or a fragment',
  ],
  PASSWORD_RESET_URL: [/^https?:\/\/[^\s]+$/, page],
  EMAIL_VERIFY_URL: [/^https?:\/\/[^\s]+$/, page],
  SMTP_URL: [
    /^smtps?:\/\/(?:[^@]*@)?[^@/?#]/,
    `a URL such as smtp://user:password@mail.example.com:587; ${withPassword}`,
  ],
  REDIS_URL: [/^rediss?:\/\//, `a URL such as redis://:password@redis.example.com:6379; ${withPassword}`],
} as const

/** Says of each setting whose URL cannot be used later why that is so, without its value. */
export function urlFaults(settings: UrlSettings): string[] {
  const faults = databaseUrlFaults(settings.DATABASE_URL)
  for (const [name, [form, words]] of Object.entries(forms)) {
    const url = settings[name as keyof typeof forms]?.replaceAll('{token}', 'x')
    if (url !== undefined && !(form.test(url) && isUsable(url))) faults.push(`${name}: must be ${words}`)
  }
  const origins = settings.CORS_ORIGINS?.split(',').map((origin) => origin.trim()) ?? []
  if (!origins.every(isOrigin))
    faults.push(
      'CORS_ORIGINS: must be a comma-separated list of origins as browsers write them: https://app.example.com',
    )
  return faults
}

function databaseUrlFaults(url: string | undefined): string[] {
  if (url === undefined) return []
  if (namesSeveralHosts(url))
    return ['DATABASE_URL: names several hosts; name one, such as that of a proxy which knows the primary']
  if (/^postgres(ql)?:\/\//.test(url) && isUsable(url)) return []
  return [`DATABASE_URL: must be a URL such as postgres://user:password@host:5432/database; ${withPassword}`]
}

/** As libpq writes them, in the host's place or in `?host=`; the path of a socket may have commas. */
function namesSeveralHosts(url: string): boolean {
  const [, authority = ''] = /^\w+:\/\/([^/?#]*)/.exec(url) ?? []
  const [, host = ''] = /[?&]host=([^&]*)/.exec(url) ?? []
  return authority.split('@').at(-1)?.includes(',') === true || (!host.startsWith('/') && host.includes(','))
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

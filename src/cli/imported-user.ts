import { Compile } from 'typebox/compile'
import { isBounded } from '#src/features/login/passwords.ts'
import type { ImportedUser } from '#src/features/accounts/bulk.ts'
import { Email, FullName, Role, Username } from '#src/features/accounts/names.ts'
import type { Columns, Field } from './columns.ts'
import { isHashLike } from './password-hash.ts'

type Row = Readonly<Record<string, unknown>>

interface ReaderOptions {
  /** Whether a user may come without a hash although the row has something like one. */
  readonly withoutPasswords: boolean
}

/** Reads rows of a file; what cannot be a user is refused with a reason that holds nothing of the row. */
export class RowReader {
  readonly #columns: Columns['of']
  readonly #known: ReadonlySet<string>
  readonly #withoutPasswords: boolean
  /** Columns that were seen and are not read. */
  readonly unused = new Set<string>()

  constructor(columns: Columns, { withoutPasswords }: ReaderOptions) {
    this.#columns = columns.of
    this.#known = new Set(columns.of.flatMap(([, names]) => names))
    this.#withoutPasswords = withoutPasswords
  }

  /** A user, or why the row is none. */
  read(row: Row, n: number): ImportedUser | string {
    for (const name of Object.keys(row)) if (!this.#known.has(name) && this.unused.size < 50) this.unused.add(name)
    const column = this.#withoutPasswords ? undefined : this.unusedHash(row)
    if (column !== undefined) return `the column ${column} seems to hold the password hash, and no field takes it`
    try {
      return userOf(this.#found(row), n)
    } catch (error) {
      if (error instanceof Refusal) return error.message
      throw error
    }
  }

  /** Whether the row has a column for the field, even if it is empty. */
  has(field: Field, row: Row): boolean {
    return this.#columns.some(
      ([name, columns]) => name === field && columns.some((column) => Object.hasOwn(row, column)),
    )
  }

  /** The column that seems to hold the hash of a row whose user would come without one. */
  unusedHash(row: Row): string | undefined {
    if (this.#found(row).password_hash !== undefined) return undefined
    return Object.keys(row).find((name) => !this.#known.has(name) && isHashLike(name, row[name]))
  }

  #found(row: Row): Record<Field, unknown> {
    const found = this.#columns.map(([field, names]) => [field, names.map((name) => row[name]).find(isGiven)])
    return Object.fromEntries(found) as Record<Field, unknown>
  }
}

/** Throws `Refusal`. */
function userOf(found: Record<Field, unknown>, n: number): ImportedUser {
  const { email = null, username = null, full_name: fullName = null, password_hash: passwordHash = null } = found
  if (email === null && username === null) throw new Refusal('there is neither an e-mail address nor a username')
  return {
    n,
    email: email === null ? null : text(email, isEmail, 'the e-mail address is not one'),
    username: username === null ? null : text(username, isUsername, 'the username holds other characters'),
    full_name: fullName === null ? null : text(fullName, isFullName, 'the full name is not one'),
    password_hash: passwordHash === null ? null : text(passwordHash, isHash, unknownHash),
    roles: rolesOf(found.roles, flag(found.is_admin, false, 'is_admin')),
    is_active: flag(found.is_active, true, 'is_active'),
    email_verified: flag(found.email_verified, false, 'email_verified'),
    created_at: found.created_at === undefined ? null : momentOf(found.created_at),
  }
}

class Refusal extends Error {}

const unknownHash = 'the password hash is neither bcrypt nor argon2, or too costly to check'
const [emailShape, usernameShape, fullNameShape, roleShape] = [Email, Username, FullName, Role].map((s) => Compile(s))
const isEmail = (value: string) => emailShape?.Check(value) === true
const isUsername = (value: string) => usernameShape?.Check(value) === true
const isFullName = (value: string) => fullNameShape?.Check(value) === true
const isHash = (value: string) => isBounded(value)
const isGiven = (value: unknown) => value !== undefined && value !== null && value !== ''

function text(value: unknown, isRight: (text: string) => boolean, otherwise: string): string {
  if (typeof value === 'string' && value.isWellFormed() && isRight(value)) return value
  throw new Refusal(otherwise)
}

const flags: Readonly<Record<string, boolean>> = {
  true: true,
  t: true,
  yes: true,
  1: true,
  false: false,
  f: false,
  no: false,
  0: false,
}

function flag(value: unknown, otherwise: boolean, name: string): boolean {
  if (value === undefined) return otherwise
  const word = typeof value === 'string' || typeof value === 'boolean' || typeof value === 'number' ? String(value) : ''
  const known = Object.hasOwn(flags, word.toLowerCase()) ? flags[word.toLowerCase()] : undefined
  if (known === undefined) throw new Refusal(`${name} is neither true nor false`)
  return known
}

/** A list, or a text such as `user,admin`, `{user,admin}` or `["user"]`. */
function rolesOf(value: unknown, isAdmin: boolean): string[] {
  const admin = isAdmin ? ['admin'] : []
  if (value === undefined) return ['user', ...admin]
  const items = typeof value === 'string' ? value.replaceAll(/[{}[\]"']/g, '').split(/[,;|\s]+/) : value
  if (!Array.isArray(items)) throw new Refusal('the roles are not a list')
  const names = items.map((item) => (typeof item === 'string' ? item.toLowerCase() : '-')).filter(Boolean)
  const roles = [...new Set([...names, ...admin])]
  if (roles.length > 16 || roles.some((role) => roleShape?.Check(role) !== true))
    throw new Refusal('a role has a name that cannot be used, or there are more than 16')
  return roles
}

const momentShape =
  /^(\d{4}-\d\d-\d\d)(?:[T ]((?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?)\d*(?: ?(Z|[+-](?:0\d|1[0-4])(?::?[0-5]\d)?))?)?$/

/** ISO 8601 as Python, Postgres and mongoexport write it; a moment without a zone is of UTC. */
function momentOf(value: unknown): string {
  const inner = typeof value === 'object' && value !== null && '$date' in value ? value.$date : value
  const long = typeof inner === 'object' && inner !== null && '$numberLong' in inner ? inner.$numberLong : undefined
  const milliseconds = typeof long === 'string' && /^\d{1,14}$/.test(long) ? Number(long) : undefined
  const shown = milliseconds === undefined ? inner : new Date(milliseconds).toISOString()
  const [, day, time = '00:00:00', zone = 'Z'] = (typeof shown === 'string' && momentShape.exec(shown)) || []
  if (day === undefined || !isDay(day)) throw new Refusal('created_at is not a moment')
  return `${day}T${time}${zone}`
}

function isDay(day: string): boolean {
  const at = new Date(`${day}T00:00:00Z`)
  const isReal = !Number.isNaN(at.getTime()) && at.toISOString().startsWith(day)
  return isReal && day >= '1970-01-01' && at.getTime() < Date.now() + 2 * 86_400_000
}

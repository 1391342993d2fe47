import { Type } from 'typebox'
import type { Account } from '#src/features/accounts/accounts.sql.ts'

const atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
const label = '[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?'

/** A dot-atom of ASCII letters at a domain name (RFC 5321 §4.1.2 without its exotic forms). */
export const Email = Type.String({
  pattern: `^(?=.{1,64}@)${atom}(?:\\.${atom})*@(?:${label}\\.)+${label}$`,
  maxLength: 254,
  description: 'E-mail address; compared without regard to case.',
  examples: ['ada@example.com'],
})
/** No `@`, so that a username can never be read as somebody's address. */
export const Username = Type.String({
  pattern: '^[A-Za-z0-9._-]+$',
  minLength: 1,
  maxLength: 64,
  description: 'Letters, digits, dot, underscore and hyphen; compared without regard to case.',
  examples: ['ada'],
})
export const FullName = Type.String({
  pattern: '^[^\\u0000-\\u001f\\u007f\\u2028\\u2029]+$',
  minLength: 1,
  maxLength: 200,
  description: 'In one line.',
  examples: ['Ada Lovelace'],
})
export const Role = Type.String({ pattern: '^[a-z][a-z0-9_-]{0,31}$', examples: ['admin'] })

/** A name that logs the user in and that nobody else can have: the username, or the e-mail address without one. */
export function loginNameOf({ id, username, email }: Account): string {
  return username ?? email ?? String(id)
}

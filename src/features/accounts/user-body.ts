import type { Account } from '#src/features/accounts/accounts.sql.ts'

/** A user as everybody outside sees them: clients, and who lists them from the shell. */
export function userBody(account: Account) {
  return {
    id: account.id,
    email: account.email,
    username: account.username,
    full_name: account.fullName,
    is_active: account.isActive,
    roles: account.roles,
    email_verified: account.emailVerifiedAt !== null,
    created_at: account.createdAt.toISOString(),
  }
}

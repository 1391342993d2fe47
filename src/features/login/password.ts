import type { Core } from '#src/features/core.ts'
import {
  type Credentials,
  upgradePasswordHash,
  userByEmail,
  userByUsername,
} from '#src/features/accounts/accounts.sql.ts'
import type { Origin } from '#src/features/audit/audit.sql.ts'
import type { TokenPair } from '#src/features/sessions/open.ts'
import { type Attempt, logInBy, type Proof, refusedLogin } from './login.ts'

/** Opens a session for a login name (e-mail address or username) and a password; throws as `logInBy` does. */
export function logIn(core: Core, name: string, password: string, origin: Origin): Promise<TokenPair> {
  return logInBy(core, () => beginWithPassword(core, name, password, origin), origin)
}

async function beginWithPassword(core: Core, name: string, password: string, origin: Origin): Promise<Attempt> {
  const user = await core.db.row(name.includes('@') ? userByEmail : userByUsername, { name })
  const target = { userId: user?.id, name, address: origin.ip }
  return { target, prove: () => provePassword(core, user, password, origin) }
}

async function provePassword(
  core: Core,
  user: Credentials | undefined,
  password: string,
  origin: Origin,
): Promise<Proof> {
  const matches = await core.passwords.matches(user?.passwordHash ?? null, password)
  if (!user?.passwordHash || !matches) throw await refusedLogin(core, 'failed', user, origin)
  if (user.isActive) await upgradeHash(core, user.id, user.passwordHash, password)
  return { user, amr: ['pwd'] }
}

/** Replaces a stored hash of former parameters by one of today's. */
async function upgradeHash(core: Core, id: number, passwordHash: string, password: string): Promise<void> {
  // bcrypt looked at 72 bytes only: what was typed after them may be a slip, and must not become the password.
  const isCut = passwordHash.startsWith('$2') && Buffer.byteLength(password) > 72
  if (isCut || !core.passwords.isOutdated(passwordHash)) return
  const newHash = await core.passwords.hash(password)
  await core.db.row(upgradePasswordHash, { id, passwordHash, newHash })
}

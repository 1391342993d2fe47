import { Value } from 'typebox/value'
import { register } from '#src/features/accounts/accounts.ts'
import { Email, FullName, Username } from '#src/features/accounts/names.ts'
import type { Context } from './command.ts'
import { shell, withCore } from './core.ts'
import { UsageError } from './failure.ts'
import { readPassword } from './prompt.ts'

interface Values {
  readonly email?: string | undefined
  readonly username?: string | null | undefined
  readonly 'full-name'?: string | null | undefined
}

export async function create(
  context: Context,
  _operands: readonly [],
  { email, username = null, 'full-name': fullName = null }: Values,
): Promise<string> {
  if (!Value.Check(Email, email)) throw new UsageError('--email must be an e-mail address')
  if (username !== null && !Value.Check(Username, username))
    throw new UsageError('--username may hold letters, digits, dot, underscore and hyphen')
  if (fullName !== null && !Value.Check(FullName, fullName)) throw new UsageError('--full-name is not a name')

  const password = await readPassword(context.io)
  const registration = { email, username, fullName, password, roles: ['user', 'admin'], emailIsConfirmed: true }
  return withCore(context, async (core) => {
    const account = await register(core, registration, shell)
    return `Created administrator ${account.id}.`
  })
}

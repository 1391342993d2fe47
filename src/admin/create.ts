import { parseArgs } from 'node:util'
import { Value } from 'typebox/value'
import { register } from '#src/core/accounts.ts'
import { Email, FullName, Username } from '#src/routes/fields.ts'
import { type Command, readPassword, shell, UsageError, withApp } from './command.ts'

/** `create --email ADDRESS [--username NAME] [--full-name NAME]`: makes an administrator. */
export const create: Command = async (settled, args) => {
  const options = { email: { type: 'string' }, username: { type: 'string' }, 'full-name': { type: 'string' } } as const
  const { values } = parseArgs({ args, options })
  const { email, username = null, 'full-name': fullName = null } = values
  if (!Value.Check(Email, email)) throw new UsageError('--email must be an e-mail address')
  if (username !== null && !Value.Check(Username, username))
    throw new UsageError('--username may hold letters, digits, dot, underscore and hyphen')
  if (fullName !== null && !Value.Check(FullName, fullName)) throw new UsageError('--full-name is not a name')

  const password = await readPassword()
  return withApp(settled, async ({ core }) => {
    const account = await register(core, { email, username, fullName, password, roles: ['user', 'admin'] }, shell)
    return `Created administrator ${account.id}.`
  })
}

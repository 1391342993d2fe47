import { Value } from 'typebox/value'
import { register } from '#src/core/accounts.ts'
import { Email, FullName, Username } from '#src/routes/fields.ts'
import { command } from './command.ts'
import { shell, withCore } from './core.ts'
import { UsageError } from './failure.ts'
import { readPassword } from './prompt.ts'

export const create = command({
  name: 'create',
  options: {
    email: { type: 'string', value: 'ADDRESS', required: true, says: 'counts as confirmed' },
    username: { type: 'string', value: 'NAME', says: 'another name to log in by' },
    'full-name': { type: 'string', value: 'NAME', says: 'for mails and lists' },
  },
  says: 'Makes an administrator. The password is asked for, or read from standard input.',
  run: async (settled, _operands, { email, username = null, 'full-name': fullName = null }) => {
    if (!Value.Check(Email, email)) throw new UsageError('--email must be an e-mail address')
    if (username !== null && !Value.Check(Username, username))
      throw new UsageError('--username may hold letters, digits, dot, underscore and hyphen')
    if (fullName !== null && !Value.Check(FullName, fullName)) throw new UsageError('--full-name is not a name')

    const password = await readPassword()
    const registration = { email, username, fullName, password, roles: ['user', 'admin'], emailIsConfirmed: true }
    return withCore(settled, async (core) => {
      const account = await register(core, registration, shell)
      return `Created administrator ${account.id}.`
    })
  },
})

import { logOutUser } from '#src/core/administration.ts'
import { command } from './command.ts'
import { shell, withCore } from './core.ts'
import { findByName, nameOf } from './user.ts'

export const logout = command({
  name: 'logout',
  operands: ['USER'],
  says: 'Ends every session of a user.',
  run: (settled, [name]) =>
    withCore(settled, async (core) => {
      const account = await findByName(core, name)
      const ended = await logOutUser(core, account.id, shell)
      return `${nameOf(account)} is logged out; sessions ended: ${ended}.`
    }),
})

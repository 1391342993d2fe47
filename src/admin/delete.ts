import { removeUser } from '#src/core/administration.ts'
import { command } from './command.ts'
import { shell, withCore } from './core.ts'
import { Failure } from './failure.ts'
import { isConfirmed } from './prompt.ts'
import { findByName, nameOf } from './user.ts'

export const deleteUser = command({
  name: 'delete',
  operands: ['USER'],
  options: { yes: { type: 'boolean', says: 'without asking' } },
  says: 'Deletes a user with everything of theirs. Asks at the terminal.',
  run: (settled, [name], { yes }) =>
    withCore(settled, async (core) => {
      const account = await findByName(core, name)
      if (!yes && !(await isConfirmed(`Delete ${nameOf(account)} (id ${account.id}) for good?`)))
        throw new Failure('Nobody was deleted.')
      await removeUser(core, account.id, shell)
      return `${nameOf(account)} is deleted.`
    }),
})

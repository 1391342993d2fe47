import { setPassword } from '#src/core/administration.ts'
import { command } from './command.ts'
import { shell, withCore } from './core.ts'
import { readPassword } from './prompt.ts'
import { findByName, nameOf } from './user.ts'

export const setPasswordOfUser = command({
  name: 'set-password',
  operands: ['USER'],
  says: 'Sets a password, ends every session, and tells the user by mail. It is asked for, or read from standard input.',
  run: (settled, [name]) =>
    withCore(settled, async (core) => {
      const account = await findByName(core, name)
      await setPassword(core, account, await readPassword(), shell)
      return `${nameOf(account)} has a new password; every session has ended.`
    }),
})

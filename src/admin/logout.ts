import { logOutUser } from '#src/core/administration.ts'
import { type Command, shell, withApp } from './command.ts'
import { findByName, nameOf, oneUser } from './user.ts'

/** `logout USER`: ends every session of a user. */
export const logout: Command = async (settled, args) => {
  const name = oneUser('logout', args)
  return withApp(settled, async ({ core }) => {
    const account = await findByName(core, name)
    const ended = await logOutUser(core, account.id, shell)
    return `${nameOf(account)} is logged out; sessions ended: ${ended}.`
  })
}

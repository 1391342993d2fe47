import { logOutUser } from '#src/features/accounts/administration.ts'
import type { Context } from './command.ts'
import { shell, withCore } from './core.ts'
import { findByName, nameOf } from './user.ts'

export function logout(context: Context, [name]: readonly [string]): Promise<string> {
  return withCore(context, async (core) => {
    const account = await findByName(core, name)
    const ended = await logOutUser(core, account.id, shell)
    return `${nameOf(account)} is logged out; sessions ended: ${ended}.`
  })
}

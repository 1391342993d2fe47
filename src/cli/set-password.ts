import { setPassword } from '#src/features/accounts/administration.ts'
import type { Context } from './command.ts'
import { shell, withCore } from './core.ts'
import { readPassword } from './prompt.ts'
import { findByName, nameOf } from './user.ts'

export function setPasswordOfUser(context: Context, [name]: readonly [string]): Promise<string> {
  return withCore(context, async (core) => {
    const account = await findByName(core, name)
    await setPassword(core, account, await readPassword(context.io), shell)
    return `${nameOf(account)} has a new password; every session has ended.`
  })
}

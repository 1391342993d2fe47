import { removeUser } from '#src/features/accounts/administration.ts'
import type { Context } from './command.ts'
import { shell, withCore } from './core.ts'
import { Failure } from './failure.ts'
import { isConfirmed } from './prompt.ts'
import { findByName, nameOf } from './user.ts'

export function deleteUser(
  context: Context,
  [name]: readonly [string],
  { yes = false }: { readonly yes?: boolean | undefined },
): Promise<string> {
  return withCore(context, async (core) => {
    const account = await findByName(core, name)
    if (!yes && !(await isConfirmed(`Delete ${nameOf(account)} (id ${account.id}) for good?`, context.io)))
      throw new Failure('Nobody was deleted.')
    await removeUser(core, account.id, shell)
    return `${nameOf(account)} is deleted.`
  })
}

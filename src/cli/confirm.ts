import { confirmAddress } from '#src/features/accounts/administration.ts'
import type { Context } from './command.ts'
import { shell, withCore } from './core.ts'
import { Failure } from './failure.ts'
import { findByName, nameOf } from './user.ts'

export function confirm(context: Context, [name]: readonly [string]): Promise<string> {
  return withCore(context, async (core) => {
    const account = await findByName(core, name)
    if (account.email === null) throw new Failure(`${nameOf(account)} has no e-mail address.`)
    const confirmed = await confirmAddress(core, account.id, shell)
    return confirmed ? `${account.email} is confirmed.` : `${account.email} was confirmed already.`
  })
}

import { changeUser } from '#src/features/accounts/administration.ts'
import type { Context } from './command.ts'
import { shell, withCore } from './core.ts'
import { findByName, nameOf } from './user.ts'

export function disable(context: Context, [name]: readonly [string]): Promise<string> {
  return withCore(context, async (core) => {
    const { id } = await findByName(core, name)
    const account = await changeUser(core, id, { isActive: false }, shell)
    return `${nameOf(account)} is disabled; every session has ended.`
  })
}

export function enable(context: Context, [name]: readonly [string]): Promise<string> {
  return withCore(context, async (core) => {
    const { id } = await findByName(core, name)
    const account = await changeUser(core, id, { isActive: true }, shell)
    return `${nameOf(account)} is enabled.`
  })
}

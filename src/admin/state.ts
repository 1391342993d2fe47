import { changeUser } from '#src/core/administration.ts'
import { type Command, shell, withApp } from './command.ts'
import { findByName, nameOf, oneUser } from './user.ts'

/** `disable USER`: locks a user out and ends every session. */
export const disable: Command = async (settled, args) => {
  const name = oneUser('disable', args)
  return withApp(settled, async ({ core }) => {
    const { id } = await findByName(core, name)
    const account = await changeUser(core, id, { isActive: false }, shell)
    return `${nameOf(account)} is disabled; every session has ended.`
  })
}

/** `enable USER`: lets a user in again. */
export const enable: Command = async (settled, args) => {
  const name = oneUser('enable', args)
  return withApp(settled, async ({ core }) => {
    const { id } = await findByName(core, name)
    const account = await changeUser(core, id, { isActive: true }, shell)
    return `${nameOf(account)} is enabled.`
  })
}

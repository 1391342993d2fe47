import { changeUser } from '#src/core/administration.ts'
import { command } from './command.ts'
import { shell, withCore } from './core.ts'
import { findByName, nameOf } from './user.ts'

export const disable = command({
  name: 'disable',
  operands: ['USER'],
  says: 'Locks a user out and ends every session.',
  run: (settled, [name]) =>
    withCore(settled, async (core) => {
      const { id } = await findByName(core, name)
      const account = await changeUser(core, id, { isActive: false }, shell)
      return `${nameOf(account)} is disabled; every session has ended.`
    }),
})

export const enable = command({
  name: 'enable',
  operands: ['USER'],
  says: 'Lets a user in again.',
  run: (settled, [name]) =>
    withCore(settled, async (core) => {
      const { id } = await findByName(core, name)
      const account = await changeUser(core, id, { isActive: true }, shell)
      return `${nameOf(account)} is enabled.`
    }),
})

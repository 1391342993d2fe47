import { Value } from 'typebox/value'
import { changeUser } from '#src/core/administration.ts'
import { Role } from '#src/routes/fields.ts'
import { type Command, Failure, shell, UsageError, withApp } from './command.ts'
import { findByName, nameOf } from './user.ts'

const mostRoles = 16

/** `grant USER ROLE`: gives a role. */
export const grant: Command = async (settled, args) => {
  const [name, role] = userAndRole(args)
  return withApp(settled, async ({ core }) => {
    const { id, roles } = await findByName(core, name)
    if (roles.length >= mostRoles && !roles.includes(role)) throw new Failure(`A user has at most ${mostRoles} roles.`)
    const account = await changeUser(core, id, { grant: role }, shell)
    return `${nameOf(account)} has the roles ${account.roles.join(', ')}.`
  })
}

/** `revoke USER ROLE`: takes a role away. */
export const revoke: Command = async (settled, args) => {
  const [name, role] = userAndRole(args)
  return withApp(settled, async ({ core }) => {
    const { id, roles } = await findByName(core, name)
    if (!roles.includes(role)) throw new Failure(`${name} does not have the role ${role}.`)
    const account = await changeUser(core, id, { revoke: role }, shell)
    return `${nameOf(account)} has the roles ${account.roles.join(', ') || '(none)'}.`
  })
}

function userAndRole([name, role, ...rest]: string[]): [string, string] {
  if (name === undefined || role === undefined || rest.length > 0)
    throw new UsageError('grant USER ROLE | revoke USER ROLE')
  if (!Value.Check(Role, role))
    throw new UsageError('a role has up to 32 small letters, digits, underscores and hyphens, a letter first')
  return [name, role]
}

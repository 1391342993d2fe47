import { Value } from 'typebox/value'
import { changeUser } from '#src/features/accounts/administration.ts'
import { Role } from '#src/features/accounts/names.ts'
import type { Context } from './command.ts'
import { shell, withCore } from './core.ts'
import { Failure, UsageError } from './failure.ts'
import { findByName, nameOf } from './user.ts'

const mostRoles = 16

export async function grant(context: Context, [name, role]: readonly [string, string]): Promise<string> {
  requireRoleName(role)
  return withCore(context, async (core) => {
    const { id, roles } = await findByName(core, name)
    if (roles.length >= mostRoles && !roles.includes(role)) throw new Failure(`A user has at most ${mostRoles} roles.`)
    const account = await changeUser(core, id, { grant: role }, shell)
    return `${nameOf(account)} has the roles ${account.roles.join(', ')}.`
  })
}

export async function revoke(context: Context, [name, role]: readonly [string, string]): Promise<string> {
  requireRoleName(role)
  return withCore(context, async (core) => {
    const { id, roles } = await findByName(core, name)
    if (!roles.includes(role)) throw new Failure(`${name} does not have the role ${role}.`)
    const account = await changeUser(core, id, { revoke: role }, shell)
    return `${nameOf(account)} has the roles ${account.roles.join(', ') || '(none)'}.`
  })
}

function requireRoleName(role: string): void {
  if (!Value.Check(Role, role))
    throw new UsageError('a role has up to 32 small letters, digits, underscores and hyphens, a letter first')
}

import type { Core } from '#src/features/core.ts'
import { accountById } from '#src/features/accounts/administration.sql.ts'
import { type Account, userByEmail, userByUsername } from '#src/features/accounts/accounts.sql.ts'
import { Failure } from './failure.ts'

/** A user by e-mail address, id (a number is always an id) or username; throws `Failure`. */
export async function findByName(core: Core, name: string): Promise<Account> {
  return (await lookUp(core, name)) ?? unknown(name)
}

function lookUp({ db }: Core, name: string): Promise<Account | undefined> {
  if (!/^\d+$/.test(name)) return db.row(name.includes('@') ? userByEmail : userByUsername, { name })
  return Number(name) < 2 ** 31 ? db.row(accountById, { id: Number(name) }) : Promise.resolve(undefined)
}

function unknown(name: string): never {
  throw new Failure(`There is no user ${name}.`)
}

export function nameOf({ email, username, id }: Account): string {
  return email ?? username ?? String(id)
}

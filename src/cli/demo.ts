import { randomBytes, randomUUIDv7 } from 'node:crypto'
import type { Core } from '#src/features/core.ts'
import { register } from '#src/features/accounts/accounts.ts'
import { changeUser } from '#src/features/accounts/administration.ts'
import { userByEmail } from '#src/features/accounts/accounts.sql.ts'
import { insertSession } from '#src/features/sessions/sessions.sql.ts'
import { digestOf } from '#src/features/tokens/tokens.ts'
import type { Context } from './command.ts'
import { shell, withCore } from './core.ts'
import { Failure } from './failure.ts'

const password = 'correct-horse-battery-staple'

interface DemoUser {
  readonly roles?: string[]
  readonly isConfirmed?: boolean
  readonly isActive?: boolean
  readonly devices: readonly string[]
}

const users: Record<string, DemoUser> = {
  admin: { roles: ['user', 'admin'], devices: ['Firefox on Linux'] },
  team: { devices: ['Chrome on Windows', 'Safari on iPhone', 'Firefox on Android'] },
  guest: { devices: [] },
  unconfirmed: { isConfirmed: false, devices: ['Edge on Windows'] },
  disabled: { isActive: false, devices: [] },
}

/** Fills a development database with users of every kind and their sessions; who is there already stays as they are. */
export async function demo(context: Context): Promise<string> {
  if (context.config.service.production) throw new Failure('demo is for development: its password is known to all.')
  return withCore(context, async (core) => {
    const lines: string[] = []
    for (const [name, user] of Object.entries(users)) {
      const email = `${name}@example.com`
      const isThere = (await core.db.row(userByEmail, { name: email })) !== undefined
      if (!isThere) await addUser(core, email, name, user)
      lines.push(`${email}${isThere ? ' (was there)' : ''}`)
    }
    return `${lines.join('\n')}\n\nThe password of those that are new: ${password}`
  })
}

async function addUser(core: Core, email: string, username: string, user: DemoUser): Promise<void> {
  const { roles = ['user'], isConfirmed = true, isActive = true, devices } = user
  const account = { email, username, fullName: null, password, roles, emailIsConfirmed: isConfirmed }
  const { id } = await register(core, account, shell)
  for (const userAgent of devices)
    await core.db.row(insertSession, {
      ...shell,
      userAgent,
      sessionId: randomUUIDv7(),
      userId: id,
      epoch: 0,
      amr: ['pwd'],
      digest: digestOf(randomBytes(32)),
      sessionSeconds: core.lifetimes.sessionSeconds,
      refreshSeconds: core.lifetimes.refreshTokenSeconds,
      sessionsPerUser: core.lifetimes.sessionsPerUser,
    })
  if (!isActive) await changeUser(core, id, { isActive }, shell)
}

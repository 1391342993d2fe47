import { pino } from 'pino'
import { composeCore } from '#src/features/compose.ts'
import type { Core } from '#src/features/core.ts'
import { makeCounters } from '#src/features/counters.ts'
import { makeLimits, uncounted } from '#src/features/limits.ts'
import { makePasswords } from '#src/features/login/passwords.ts'
import type { AccessTokens } from '#src/features/tokens/tokens.ts'
import { Database } from '#src/db/database.ts'
import type { Context } from './command.ts'
import { requireSchema } from './database.ts'

/** What the audit trail says of a change from the shell. */
export const shell = { actorId: null, ip: null, userAgent: 'admin command', requestId: null }

/** Runs `use` with the domain and nothing else: no HTTP, no Redis, no keys of access tokens, no mail worker. */
export async function withCore<T>({ config }: Context, use: (core: Core) => Promise<T>): Promise<T> {
  await requireSchema(config)
  const db = new Database(config.database.url, 2)
  const passwords = makePasswords(config.passwords, counters)
  const log = pino({ level: 'silent' })
  try {
    return await use(
      composeCore(config, {
        db,
        passwords,
        accessTokens,
        limits: makeLimits(uncounted),
        counters,
        log,
        wakeMailer: ignore,
      }),
    )
  } finally {
    await db.close()
  }
}

function ignore(): void {}

/** A command ends before anybody could ask. */
const counters = makeCounters(() => ignore)

const accessTokens: AccessTokens = { sign: noTokens, verify: noTokens }

function noTokens(): never {
  throw new Error('a command neither signs nor checks access tokens')
}

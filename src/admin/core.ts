import { pino } from 'pino'
import { composeCore } from '#src/core/compose.ts'
import type { Core, Counters } from '#src/core/core.ts'
import { KeyRing } from '#src/core/key-ring.ts'
import { makePasswords } from '#src/core/passwords.ts'
import type { AccessTokens } from '#src/core/tokens.ts'
import { Database } from '#src/db/client.ts'
import type { Settled } from '#src/settle.ts'
import { requireSchema } from './database.ts'

/** What the audit trail says of a change from the shell. */
export const shell = { actorId: null, ip: null, userAgent: 'admin command', requestId: null }

/** Runs `use` with the domain and nothing else: no HTTP, no Redis, no keys of access tokens, no mail worker. */
export async function withCore<T>({ config }: Settled, use: (core: Core) => Promise<T>): Promise<T> {
  await requireSchema(config)
  const db = new Database(config.databaseUrl, 2)
  const passwords = makePasswords(config.argon2, { passwordHashed: ignore, gateWaited: ignore })
  const log = pino({ level: 'silent' })
  try {
    return await use(composeCore(config, { db, passwords, accessTokens, counters, log, queued: ignore }))
  } finally {
    await db.close()
  }
}

/** As `withCore`, with the keys of access tokens. */
export function withApp<T>(settled: Settled, use: (app: { core: Core; keyRing: KeyRing }) => Promise<T>): Promise<T> {
  const { secretKey, secretKeyPrevious, algorithm, accessTokenSeconds } = settled.config
  const secrets = [secretKey, ...(secretKeyPrevious ? [secretKeyPrevious] : [])]
  return withCore(settled, async (core) => {
    const keyRing = new KeyRing(core.db, secrets, algorithm, accessTokenSeconds)
    await keyRing.load()
    return use({ core, keyRing })
  })
}

function ignore(): void {}

/** A command ends before anybody could ask. */
const counters: Counters = {
  login: ignore,
  refresh: ignore,
  sessionsRevoked: ignore,
  passwordHashed: ignore,
  gateWaited: ignore,
  mail: ignore,
  swept: ignore,
}

const accessTokens: AccessTokens = { sign: noTokens, verify: noTokens }

function noTokens(): never {
  throw new Error('a command neither signs nor checks access tokens')
}

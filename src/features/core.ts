import type { KeyObject } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import type { Config } from '#src/config.ts'
import type { Database } from '#src/db/database.ts'
import type { Counters } from './counters.ts'
import type { Limits } from './limits.ts'
import type { Passwords } from '#src/features/login/passwords.ts'
import type { Rotations } from '#src/features/sessions/rotations.ts'
import type { SessionStates } from '#src/features/sessions/session-states.ts'
import type { AccessTokens } from '#src/features/tokens/tokens.ts'

/** All that a use case needs; made once by the `core` plugin, passed to every function of this folder. */
export interface Core {
  readonly db: Database
  readonly sessionStates: SessionStates
  readonly rotations: Rotations
  readonly passwords: Passwords
  readonly accessTokens: AccessTokens
  /** Keys of the refresh successor: the current one, then those that still answer a retry. */
  readonly successorKeys: readonly KeyObject[]
  readonly lifetimes: Config['sessions']
  readonly mail: MailRules
  readonly limits: Limits
  readonly counters: Counters
  readonly log: FastifyBaseLogger
}

/** What the links of mails need. */
interface MailRules {
  /** Keys of one-time tokens: the current one, then those of links that are still under way. */
  readonly oneTimeKeys: readonly KeyObject[]
  readonly requireVerifiedEmail: boolean
  /** Says that a mail was wakeMailer, so that it is sent at once. */
  readonly wakeMailer: () => void
}

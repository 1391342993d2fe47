import type { Config } from '#src/config.ts'
import type { Core } from './core.ts'
import { makeRotations } from '#src/features/sessions/rotations.ts'
import { makeSessionStates } from '#src/features/sessions/session-states.ts'
import { deriveKey } from '#src/db/sealing.ts'

/** The settings that the domain goes by. */
export interface CoreSettings {
  readonly sessions: Config['sessions']
  readonly mail: Pick<Config['mail'], 'requireVerifiedEmail'>
  readonly tokens: Pick<Config['tokens'], 'secretKeyPrevious'> & { readonly secretKey: string }
}

/** What differs between the service and a command. */
export type CoreParts = Pick<Core, 'db' | 'passwords' | 'accessTokens' | 'limits' | 'counters' | 'log'> & {
  /** Says that a mail was queued. */
  readonly wakeMailer: () => void
}

/** Puts the domain together. */
export function composeCore({ sessions, mail, tokens }: CoreSettings, { wakeMailer, ...parts }: CoreParts): Core {
  const { secretKey, secretKeyPrevious } = tokens
  const secrets = [secretKey, ...(secretKeyPrevious ? [secretKeyPrevious] : [])]
  return Object.freeze<Core>({
    ...parts,
    sessionStates: makeSessionStates(parts.db),
    rotations: makeRotations(parts.db),
    successorKeys: secrets.map((secret) => deriveKey(secret, 'refresh-successor')),
    lifetimes: sessions,
    mail: {
      oneTimeKeys: secrets.map((secret) => deriveKey(secret, 'one-time-token')),
      requireVerifiedEmail: mail.requireVerifiedEmail,
      wakeMailer,
    },
  })
}

import { accountEvents } from '#src/features/accounts/accounts.events.ts'
import { loginEvents } from '#src/features/login/login.events.ts'
import { mailEvents } from '#src/features/mail/mail.events.ts'
import { recoveryEvents } from '#src/features/recovery/recovery.events.ts'
import { sessionEvents } from '#src/features/sessions/sessions.events.ts'
import { keyEvents } from '#src/features/tokens/signing-keys.events.ts'

/**
 * The catalogue of the audit trail, as each subject declares it: type → what its detail may hold. docs/audit.md says what
 * each means.
 */
export const eventDetails = {
  ...accountEvents,
  ...loginEvents,
  ...sessionEvents,
  ...recoveryEvents,
  ...mailEvents,
  ...keyEvents,
} as const satisfies Record<string, readonly string[]>

export type EventType = keyof typeof eventDetails

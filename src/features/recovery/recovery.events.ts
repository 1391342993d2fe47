/** The events of links from mails: type → what the detail may hold. */
export const recoveryEvents = {
  'password.reset_requested': [],
  'password.reset': [],
  'password.reset_failed': [],
  'email.verification_requested': [],
  'email.verified': [],
  'email.verification_failed': [],
  'email.change_requested': [],
  'email.changed': [],
} as const

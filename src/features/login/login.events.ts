/** The events of logins: type → what the detail may hold. */
export const loginEvents = {
  'login.succeeded': [],
  'login.failed': [],
  'login.disabled': [],
  'login.unverified': [],
} as const

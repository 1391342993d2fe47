/** Why a session can end before its time, as the audit trail and the metrics tell it. */
export const revokeReasons = [
  'logout',
  'reuse',
  'password_change',
  'password_reset',
  'session_ended',
  'limit',
  'disabled',
  'admin',
] as const

export type RevokeReason = (typeof revokeReasons)[number]

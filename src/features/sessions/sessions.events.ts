/** The events of sessions: type → what the detail may hold. */
export const sessionEvents = {
  'session.ended': ['reason'],
  'sessions.ended': ['reason'],
  'refresh_token.late_retry': [],
  'refresh_token.reused': [],
} as const

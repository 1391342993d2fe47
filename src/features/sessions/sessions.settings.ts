import { group, setting, whole } from '#src/settings.ts'

const day = 86_400

/** How long sessions and refresh tokens live, and how many a user has. */
export const sessionSettings = group({
  refreshTokenSeconds: setting('REFRESH_TOKEN_EXPIRE_DAYS', whole(1, 365, 7), {
    says: 'lifetime of a refresh token that is not used (idle), 1–365',
    read: (days) => days * day,
  }),
  sessionSeconds: setting('SESSION_EXPIRE_DAYS', whole(1, 365, 30), {
    says: 'lifetime of a session, however often it is refreshed (absolute), 1–365',
    read: (days) => days * day,
  }),
  refreshGraceSeconds: setting('REFRESH_GRACE_SECONDS', whole(0, 60, 10), {
    says: 'how long a spent refresh token gets the same successor again, 0–60',
  }),
  /** In how many generations in a row a late retry is granted. */
  refreshLateRetries: setting('REFRESH_LATE_RETRIES', whole(0, 10, 1), {
    says: 'in how many refreshes in a row a [late retry](docs/rotation.md#the-late-retry) still gets it, 0–10',
  }),
  /** Live sessions of one user; the login beyond ends the oldest. */
  sessionsPerUser: setting('SESSIONS_PER_USER', whole(1, 10_000, 100), {
    says: 'live sessions of one user, 1–10000; the login beyond ends the oldest',
  }),
})

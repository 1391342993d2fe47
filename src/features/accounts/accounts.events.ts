/** The events of accounts: type → what the detail may hold. */
export const accountEvents = {
  'user.registered': [],
  'user.created': ['roles'],
  'user.imported': [],
  'user.updated': ['fields', 'roles', 'is_active'],
  'user.deleted': [],
  'users.exported': [],
  'password.changed': [],
  'password.incorrect': [],
  'administration.refused': ['code', 'action'],
} as const

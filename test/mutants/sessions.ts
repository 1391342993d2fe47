import { mutantsOf } from './mutant.ts'

const endings = [
  'test/features/sessions/endings.test.ts',
  'test/features/sessions/sessions.test.ts',
  'test/contracts/kanban.test.ts',
]

const logins = [
  'test/features/login/passwords.test.ts',
  'test/features/sessions/sessions.test.ts',
  'test/features/recovery/recovery.test.ts',
  'test/contracts/kanban.test.ts',
]

export const sessionMutants = [
  ...mutantsOf('src/features/sessions/sessions.sql.ts', endings, {
    'login: a changed password opens nothing': [' and session_epoch = ${$.epoch}::integer for share', ' for share'],
    'login: a disabled user opens nothing': ['and is_active and session_epoch', 'and session_epoch'],
    'login: the first token ends with its session': [
      'least(now() + make_interval(secs => ${$.refreshSeconds}::integer), expires_at)\n    from opened',
      'now() + make_interval(secs => ${$.refreshSeconds}::integer)\n    from opened',
    ],
    'login: too many sessions end': [
      'from excess where s.id = excess.id and s.revoked_at',
      'from excess where false and s.revoked_at',
    ],
    'login: the oldest end': ['order by s.created_at desc offset', 'order by s.created_at offset'],
    'login: ended sessions leave their place': [
      's.epoch = (select session_epoch from owner) and s.revoked_at is null',
      's.epoch = (select session_epoch from owner)',
    ],
    'login: the end of the oldest is told': [
      "sessionId: sql`ended.id`, detail: sql`jsonb_build_object('reason', 'limit')`, from: sql`ended` })}",
      "sessionId: sql`ended.id`, detail: sql`jsonb_build_object('reason', 'limit')`, from: sql`ended where false` })}",
    ],
    'session: a revoked one is refused': [
      's.revoked_at is not null or s.epoch <> u.session_epoch as "sessionRevoked"',
      's.epoch <> u.session_epoch as "sessionRevoked"',
    ],
    'session: one of an older epoch is refused': [
      's.revoked_at is not null or s.epoch <> u.session_epoch as "sessionRevoked"',
      's.revoked_at is not null as "sessionRevoked"',
    ],
    'session: an expired one is refused': ['s.expires_at <= now() as "sessionExpired"', 'false as "sessionExpired"'],
    'session: is that of the user in the token': [
      'where s.id = asked.session_id and s.user_id = asked.user_id limit 1',
      'where s.id = asked.session_id limit 1',
    ],
    'list: none of an older epoch': [
      'on u.id = s.user_id and u.session_epoch = s.epoch\n  where s.user_id',
      'on u.id = s.user_id\n  where s.user_id',
    ],
    'list: none that was ended': [
      'where s.user_id = ${$.userId} and s.revoked_at is null and s.expires_at',
      'where s.user_id = ${$.userId} and s.expires_at',
    ],
    'list: none whose token has expired': [
      't.generation = s.generation and t.expires_at > now()',
      't.generation = s.generation',
    ],
    'endings: the epoch is raised': [
      'sql`session_epoch = session_epoch + 1, sessions',
      'sql`session_epoch = session_epoch, sessions',
    ],
    'endings: the sweep learns of them': ['sessions_ended_at = clock_timestamp()`', 'updated_at = now()`'],
    'endings: the session that is kept goes on': [
      'then owner.session_epoch else s.epoch end\n',
      'then s.epoch else s.epoch end\n',
    ],
    'endings: the kept session is carried by one step': [
      'case when s.epoch = owner.session_epoch - 1 then',
      'case when true then',
    ],
    'endings: only a session of the user is kept': [
      's.id = ${$.keepSessionId}::uuid and s.user_id = owner.id and s.revoked_at is null',
      's.id = ${$.keepSessionId}::uuid and s.revoked_at is null',
    ],
    'end: only one of the user': [
      'where id = ${$.sessionId} and user_id = ${$.userId} and revoked_at is null',
      'where id = ${$.sessionId} and revoked_at is null',
    ],
    'end: one that ended with the epoch is unknown': [
      'and epoch = (select session_epoch from ${users} where id = ${$.userId})\n',
      '\n',
    ],
  }),
  ...mutantsOf('src/features/sessions/sessions.sql.ts', ['test/features/accounts/accounts.test.ts'], {
    'password: is set only over the one that was checked': [
      ' and password_hash = ${$.passwordHash} returning id, email, session_epoch',
      ' returning id, email, session_epoch',
    ],
  }),
  ...mutantsOf(
    'src/features/sessions/sweep.sql.ts',
    ['test/features/sessions/endings.test.ts', 'test/features/sessions/sweep.test.ts'],
    {
      'sweep: marks only older epochs': [
        's.epoch < u.session_epoch and s.revoked_at is null\n      limit 1000 for update',
        's.revoked_at is null\n      limit 1000 for update',
      ],
      'sweep: notes that all are marked': [
        'set sessions_ended_at = null from batch',
        'set updated_at = now() from batch',
      ],
      'sweep: keeps ended sessions for the retention': [
        'or revoked_at < now() - make_interval(days => ${$.days}::integer)',
        'or revoked_at < now()',
      ],
      'sweep: keeps expired sessions for the retention': [
        'where expires_at < now() - make_interval(days => ${$.days}::integer)',
        'where expires_at < now()',
      ],
      'sweep: passes over sessions that are held': [
        'or revoked_at < now() - make_interval(days => ${$.days}::integer)\n    limit 1000 for update skip locked',
        'or revoked_at < now() - make_interval(days => ${$.days}::integer)\n    limit 1000 for update',
      ],
    },
  ),
  ...mutantsOf(
    'src/features/sessions/sweep.ts',
    ['test/features/sessions/sweep.test.ts', 'test/features/sessions/endings.test.ts'],
    {
      'sweep: goes on after a fault': ['isWhole = false\n      onFault(error)', 'onFault(error)\n      throw error'],
      'sweep: a failed one is not finished': ['isWhole = false\n', ''],
      'sweep: stops when it is told': ['if (signal?.aborted) return\n', ''],
      'sweep: takes more than one batch of tokens': ['if (seen < batchSize ||', 'if (seen < batchSize || true ||'],
      'sweep: takes more than one batch of a table': [
        'if ((await batch()) < batchSize || signal?.aborted) return',
        'if ((await batch()) <= batchSize) return',
      ],
      'sweep: counts users': ['counters.users(countedUsers)', ''],
      'sweep: counts more than one part': ['part.seen < partSize', 'part.seen <= partSize'],
      'sweep: counts live sessions': ['counters.liveSessions(live)', ''],
      'sweep: removes deleted users': ["table('users', sweepDeletedUsers, {}),", ''],
      'sweep: removes events of deleted users': ["table('audit_events', sweepEventsOfDeleted, {}),", ''],
    },
  ),
  ...mutantsOf(
    'src/features/accounts/accounts.sql.ts',
    [
      'test/features/sessions/endings.test.ts',
      'test/contracts/kanban.test.ts',
      'test/features/accounts/administration.test.ts',
    ],
    {
      'deletion: frees the address': ['set email = null, username', 'set email = u.email, username'],
      'deletion: frees the username': ['username = null, full_name = null', 'username = u.username, full_name = null'],
      'deletion: ends the sessions': [
        "roles = '{}', is_active = false, session_epoch = u.session_epoch + 1",
        "roles = '{}', is_active = true, session_epoch = u.session_epoch",
      ],
      'deletion: forgets the password': [
        'password_hash = null, email_verified',
        'password_hash = u.password_hash, email_verified',
      ],
      'deletion: takes links away': [
        'delete from ${oneTimeTokens} t using gone where',
        'delete from ${oneTimeTokens} t using gone where false and',
      ],
      'deletion: takes waiting mail away': [
        'delete from ${outbox} m using gone where',
        'delete from ${outbox} m using gone where false and',
      ],
      'deletion: not of the last administrator': [
        'where u.id = target.id and not target.is_last_admin returning u.id',
        'where u.id = target.id returning u.id',
      ],
      'administrators: are locked in order': ["or (${endangered} and 'admin' = any(roles) and is_active)\n", '\n'],
    },
  ),
  ...mutantsOf(
    'src/features/accounts/deleted-users.sql.ts',
    ['test/features/sessions/endings.test.ts', 'test/features/accounts/accounts.test.ts'],
    {
      'deletion: one event stays': ["e.user_id = u.id and e.type <> 'user.deleted'`,", 'e.user_id = u.id`,'],
      'deletion: the row goes last': ['and not exists (select from ${sessions} s where s.user_id = u.id)\n', '\n'],
    },
  ),
  ...mutantsOf(
    'src/features/accounts/administration.sql.ts',
    [
      'test/features/sessions/endings.test.ts',
      'test/features/sessions/sessions.test.ts',
      'test/contracts/kanban-admin.test.ts',
    ],
    {
      'administration: disabling raises the epoch': [
        'case when d.is_disabled then d.session_epoch + 1 else d.session_epoch end',
        'd.session_epoch',
      ],
      'administration: a deleted user is not listed': ['u.id <= edge.id) and u.deleted_at is null', 'u.id <= edge.id)'],
      'administration: a deleted user is not found': [
        'where u.id = ${$.id}::integer and u.deleted_at is null`',
        'where u.id = ${$.id}::integer`',
      ],
      'administration: of a deleted user one event is shown': [
        "e.type = 'user.deleted' or not exists",
        'true or not exists',
      ],
      'administration: a new address has to be confirmed': [
        'case when d.is_moved then null else u.email_verified_at end',
        'u.email_verified_at',
      ],
    },
  ),
  ...mutantsOf('src/features/accounts/administration.sql.ts', ['test/features/accounts/administration.test.ts'], {
    'administration: the last administrator stays': [
      'where u.id = d.id and not d.is_last_admin and',
      'where u.id = d.id and',
    ],
  }),
  ...mutantsOf(
    'src/features/sessions/logout.ts',
    ['test/contracts/kanban.test.ts', 'test/contracts/auth-signup.test.ts'],
    {
      'logout: the refresh token is tried as well': [
        'refreshToken === undefined ? undefined :',
        'refreshToken === undefined || accessToken !== undefined ? undefined :',
      ],
      'logout: one token that works is enough': [
        'if (refusals.length === attempts.length)',
        'if (refusals.length > 0 || attempts.length === 0)',
      ],
    },
  ),
  ...mutantsOf('src/features/sessions/logout.ts', ['test/features/tokens/key-ring.test.ts'], {
    'logout: a fault is no refusal': ['if (!(error instanceof Problem) || error.status !== 401) throw error', ''],
  }),
  ...mutantsOf('src/features/sessions/logout.ts', ['test/faults/failover.test.ts'], {
    'logout: one that is repeated waits for the standby': ['return requireEnded(core, claims)', 'return'],
  }),
  ...mutantsOf('src/features/login/password.ts', logins, {
    'login: bcrypt beyond 72 bytes is left alone': [
      "passwordHash.startsWith('$2') && Buffer.byteLength(password) > 72",
      'false as boolean',
    ],
  }),
  ...mutantsOf('src/features/login/login.ts', logins, {
    'login: a disabled user is refused': [
      "if (!user.isActive) throw await refusedLogin(core, 'disabled', user, origin)",
      '',
    ],
    'login: an address that has to be confirmed is': ["throw new Problem('email_not_verified')", 'return'],
  }),
  ...mutantsOf('src/features/sessions/authenticate.ts', logins, {
    'access: a revoked session is refused': [
      "if (!state || state.sessionRevoked) throw new Problem('session_revoked')",
      "if (!state) throw new Problem('session_revoked')",
    ],
    'access: an expired session is refused': ["if (state.sessionExpired) throw new Problem('session_expired')", ''],
    'access: a disabled user is refused': ["if (!state.isActive) throw new Problem('user_disabled')", ''],
  }),
  ...mutantsOf('src/features/sessions/logout.ts', logins, {
    'logout: local is local': ["if (scope === 'local') {", "if (scope === 'local' && false) {"],
    'logout: others keeps this one': ["scope === 'others' ? sessionId : null", 'null'],
    'logout: by a reused token ends its session': [
      "=== 'reused') await endReusedSession(core, presented, sender)\n  await logOut",
      "=== 'reused') throw new Problem('refresh_token_reused')\n  await logOut",
    ],
  }),
  ...mutantsOf('src/features/login/pending.sql.ts', ['test/features/login/pending.test.ts'], {
    'pending: has as many tries as it has': ['and tries_left > 0 ', ''],
    'pending: has an end, for a try': ['and tries_left > 0 and expires_at > clock_timestamp()', 'and tries_left > 0'],
    'pending: is of one kind': ['and kind = ${$.kind} and tries_left', 'and tries_left'],
    'pending: is bounded for a user': [
      'delete from ${authSessions} a using excess where',
      'delete from ${authSessions} a using excess where false and',
    ],
  }),
  ...mutantsOf('src/routes/refresh-cookie.ts', ['test/contracts/kanban.test.ts'], {
    'cookie: of two none is taken': ['token === undefined || countOf(request, name) !== 1', 'token === undefined'],
    'cookie: needs the header': [
      "!isWanted(request) || request.headers['sec-fetch-site'] === 'cross-site'",
      "request.headers['sec-fetch-site'] === 'cross-site'",
    ],
    'cookie: not from another site': [
      "!isWanted(request) || request.headers['sec-fetch-site'] === 'cross-site'",
      '!isWanted(request)',
    ],
    'cookie: has an end': ['{ ...attributes(path), maxAge: options.maxAge }', '{ ...attributes(path) }'],
    'cookie: is out of reach of scripts': ['httpOnly: true', 'httpOnly: false'],
    'cookie: stays on the site': ["sameSite: 'strict'", "sameSite: 'none'"],
    'cookie: only for its own paths': [
      'const paths = [`${options.prefix}/refresh`, `${options.prefix}/logout`]',
      "const paths = ['/']",
    ],
  }),
  ...mutantsOf('src/routes/v1/login.ts', ['test/contracts/kanban.test.ts'], {
    'cookie: replies carry the session': ['session_id: pair.sessionId, generation', 'generation'],
    'cookie: replies carry no refresh token': [
      'const { refresh_token: _, ...body } = tokensBody(pair)',
      'const body = tokensBody(pair)',
    ],
    'cookie: outlives superseded': [
      "error.status === 401 && error.code !== 'refresh_token_superseded'",
      'error.status === 401',
    ],
    'cookie: goes with a refused logout': ['if (isOver(error)) clear()', ''],
    'cookie: goes with the logout': ["if (scope !== 'others') clear()", ''],
  }),
  ...mutantsOf('src/routes/v1/account.ts', ['test/contracts/kanban.test.ts'], {
    'cookie: goes with the account': ['cookie.clear(reply)\n', ''],
  }),
  ...mutantsOf('src/routes/authenticate.ts', ['test/contracts/kanban-admin.test.ts', 'test/rfc/rfc6750.test.ts'], {
    'access: a role is a whole word': [
      'if (roles.includes(role)) return',
      'if (roles.some((own) => own.startsWith(role))) return',
    ],
    'access: a header is read to the letter': [
      "if (token === undefined) throw new Problem('malformed_authorization')",
      '',
    ],
  }),
]

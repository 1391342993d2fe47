import { mutantsOf } from './mutant.ts'

const tests = [
  'test/features/sessions/late-retries.test.ts',
  'test/features/sessions/rotation.test.ts',
  'test/features/sessions/rotation-interleavings.test.ts',
]
const sharedTests = ['test/features/sessions/rotations.test.ts']
const sweepTests = ['test/features/sessions/sweep.test.ts', 'test/features/sessions/late-retries.test.ts']

export const rotationMutants = [
  ...mutantsOf('src/features/sessions/rotations.ts', ['test/features/sessions/sharing.test.ts'], {
    'shared rotation: that the database refuses it is remembered': ['if (isUnsupported(error)) canShare = false', ''],
  }),
  ...mutantsOf('src/features/sessions/session-states.ts', ['test/features/sessions/sharing.test.ts'], {
    'session states: a refusal to share is nobody’s fault': ['if (!isUnsupported(error)) throw error', 'throw error'],
    'session states: that the database refuses to share is remembered': ['        canShare = false\n', ''],
  }),
  ...mutantsOf('src/features/sessions/rotations.ts', sharedTests, {
    'shared rotation: who was passed over goes alone': ['grants[i] ?? alone(asked)', 'grants[i]'],
    'shared rotation: nobody waits long for others': [
      'setTimeout(land, patienceMs)',
      'setTimeout(() => {}, patienceMs)',
    ],
    'shared rotation: a slow database is asked once': ['if (error instanceof Problem) throw error\n', ''],
    'shared rotation: no fault is shared': ['if (error instanceof Problem) throw error\n', 'throw error\n'],
    'shared rotation: a session is in it once': [
      'group.set(asked.rotation.sessionId, asked)',
      'group.set(String(group.size), asked)',
    ],
    'shared rotation: it is one': ['underWay === 0 || underWay + waiting.length <= few', 'true'],
  }),
  ...mutantsOf('src/features/sessions/rotation.sql.ts', sharedTests, {
    'shared rotation: it waits for no lock': ['limit 1 for no key update skip locked', 'limit 1 for no key update'],
    'shared rotation: the digest has to match': ['and t.digest = free.digest\n', ''],
    'shared rotation: an expired token does not move the head': [
      'free.digest\n      and t.expires_at > clock_timestamp()',
      'free.digest',
    ],
    'shared rotation: a revoked session does not move': [
      's.revoked_at is null and s.expires_at > clock_timestamp()\n      and u.id = s.user_id and u.is_active and u.session_epoch = s.epoch\n    returning free',
      's.expires_at > clock_timestamp()\n      and u.id = s.user_id and u.is_active and u.session_epoch = s.epoch\n    returning free',
    ],
    'shared rotation: an expired session does not move': [
      'and s.expires_at > clock_timestamp()\n      and u.id = s.user_id and u.is_active and u.session_epoch = s.epoch\n    returning free',
      'and u.id = s.user_id and u.is_active and u.session_epoch = s.epoch\n    returning free',
    ],
    'shared rotation: that of a disabled user does not move': [
      'u.is_active and u.session_epoch = s.epoch\n    returning free',
      'u.session_epoch = s.epoch\n    returning free',
    ],
    'shared rotation: one of an older epoch does not move': [
      'and u.session_epoch = s.epoch\n    returning free',
      'returning free',
    ],
    'shared rotation: a token never outlives its session': [
      'successor_digest, refreshed_at,\n      least(refreshed_at + make_interval(secs => ${$.refreshSeconds}::integer), expires_at)',
      'successor_digest, refreshed_at,\n      refreshed_at + make_interval(secs => ${$.refreshSeconds}::integer)',
    ],
  }),
  ...mutantsOf('src/features/sessions/rotation.ts', tests, {
    'rotation: a revoked session is refused': [
      "if (state.sessionRevoked) throw new Problem('refresh_token_revoked')",
      '',
    ],
    'rotation: a disabled user is refused': [
      "if (!state.userIsActive) throw new Problem('refresh_token_user_disabled')",
      '',
    ],
    'rotation: an expired session is refused': ['state.sessionExpired || state.tokenExpired', 'state.tokenExpired'],
    'rotation: an expired token is refused': ['state.sessionExpired || state.tokenExpired', 'state.sessionExpired'],
    'rotation: the window is a window': ['if (withinGrace) return', 'if (isParent) return'],
    'rotation: only the parent of the head is late': ['return isParent && mayRetryLate', 'return mayRetryLate'],
    'rotation: late retries have a limit': ['lateCount < refreshLateRetries', 'lateCount <= refreshLateRetries'],
    'rotation: late retries in a row are told from others': ['lateGeneration !== generation ||', ''],
    'rotation: late retries can be switched off': ['refreshLateRetries > 0 && ', ''],
    'rotation: a late retry is noted': [
      'if (state.lateGeneration === state.headGeneration) return true',
      'return true',
    ],
    'rotation: a late retry is counted as late': ["late: 'late' }", "late: 'replayed' }"],
    'rotation: a reuse ends the session': [
      'const ended = await core.db.row(revokeReusedSession, { ...sender, sessionId })',
      'const ended = undefined as unknown',
    ],
    'rotation: a reuse counts as an end': ["if (ended) core.counters.sessionsRevoked('reuse', 1)", ''],
    'rotation: an unknown token is refused': [
      "if (!state) throw new Problem('refresh_token_invalid')\n  return state",
      'return state as TokenState',
    ],
    'rotation: the former key still answers a retry': [
      'core.successorKeys\n          .map',
      'core.successorKeys.slice(0, 1)\n          .map',
    ],
    'rotation: the successor is the one that is stored': [
      '.find(({ secret }) => timingSafeEqual(digestOf(secret), successorDigest))',
      '.find(() => true)',
    ],
    'rotation: what was rotated is counted': [
      "return { outcome: 'rotated', pair: pairOf(core, grant, token) }",
      "return { outcome: 'replayed', pair: pairOf(core, grant, token) }",
    ],
  }),
  ...mutantsOf('src/features/sessions/rotation.ts', ['test/faults/frozen.test.ts'], {
    'rotation: who has hung up ends nothing': ['if (!sender.isWaiting()) throw', 'if (sender === undefined) throw'],
  }),
  ...mutantsOf('src/features/sessions/rotation.ts', ['test/faults/failover.test.ts'], {
    'rotation: a retry waits for the standby': ['if (await isKept(core, successor)) return', 'return'],
  }),
  ...mutantsOf('src/features/sessions/rotation.sql.ts', ['test/faults/failover.test.ts'], {
    'rotation: what a retry finds is locked': [
      'and digest = ${$.digest}\n  for key share`',
      'and digest = ${$.digest}`',
    ],
  }),
  ...mutantsOf('src/features/sessions/rotation.ts', ['test/db/database.test.ts'], {
    'rotation: its own lost answer is no reuse': [
      "timingSafeEqual(digestOf(drawn.secret), successorDigest)) return 'own'",
      "timingSafeEqual(digestOf(drawn.secret), successorDigest)) return 'reused'",
    ],
  }),
  ...mutantsOf('src/features/tokens/tokens.ts', ['test/features/tokens/tokens.test.ts', ...tests], {
    'tokens: the successor needs the presented secret': ['.update(presented.secret)\n', ''],
    'tokens: the successor needs the salt': ['.update(salt)\n', ''],
    'tokens: a refresh token has one spelling': ['formatRefreshToken(token) === text ? token : undefined', 'token'],
    'tokens: the first secret is random': ['secret: randomBytes(32)', 'secret: Buffer.alloc(32)'],
  }),
  ...mutantsOf('src/features/sessions/rotation.sql.ts', [...tests, 'test/features/sessions/sessions.test.ts'], {
    'rotate: the digest has to match': [
      'and t.digest = ${$.digest}\n      and t.expires_at',
      'and ${$.digest}::bytea is not null\n      and t.expires_at',
    ],
    'rotate: an expired token does not move the head': [
      't.digest = ${$.digest}\n      and t.expires_at > clock_timestamp()\n',
      't.digest = ${$.digest}\n',
    ],
    'rotate: a revoked session does not move': [
      'and s.revoked_at is null and s.expires_at > clock_timestamp()\n      and u.id = s.user_id and u.is_active and u.session_epoch = s.epoch\n    returning s.id, s.generation',
      'and s.expires_at > clock_timestamp()\n      and u.id = s.user_id and u.is_active and u.session_epoch = s.epoch\n    returning s.id, s.generation',
    ],
    'rotate: a session of an older epoch does not move': [
      'and u.session_epoch = s.epoch\n    returning s.id, s.generation',
      '\n    returning s.id, s.generation',
    ],
    'rotate: a disabled user does not move': [
      'and u.id = s.user_id and u.is_active and u.session_epoch = s.epoch\n    returning s.id, s.generation',
      'and u.id = s.user_id and u.session_epoch = s.epoch\n    returning s.id, s.generation',
    ],
    'rotate: a token never outlives its session': [
      '::bytea, refreshed_at,\n      least(refreshed_at + make_interval(secs => ${$.refreshSeconds}::integer), expires_at)',
      '::bytea, refreshed_at,\n      refreshed_at + make_interval(secs => ${$.refreshSeconds}::integer)',
    ],
    'second look: the digest has to match': [
      't.generation = ${$.generation}::integer\n    and t.digest = ${$.digest}`',
      't.generation = ${$.generation}::integer\n    and ${$.digest}::bytea is not null`',
    ],
    'second look: an older epoch has ended': [
      's.revoked_at is not null or s.epoch <> u.session_epoch as "sessionRevoked",\n    s.generation',
      's.revoked_at is not null as "sessionRevoked",\n    s.generation',
    ],
    'late: holds only for the parent of the head': ['and s.generation = ${$.generation}::integer + 1\n', '\n'],
    'late: is written once for a head': ['and s.late_generation is distinct from s.generation\n', ''],
    'late: counts on': ['then s.late_count + 1 else 1 end', 'then 1 else 1 end'],
    'late: begins anew': ['then s.late_count + 1 else 1 end', 'then s.late_count + 1 else s.late_count + 1 end'],
    'late: is audited': [
      'sessionId: sql`granted.id`, from: sql`granted` })}',
      'sessionId: sql`granted.id`, from: sql`granted where false` })}',
    ],
    'reuse: leaves one event': [
      'where id = ${$.sessionId} and revoked_at is null returning id, user_id',
      'where id = ${$.sessionId} returning id, user_id',
    ],
  }),
  ...mutantsOf('src/features/sessions/sweep.sql.ts', sweepTests, {
    'sweep: keeps young tokens': [
      'where t.issued_at < now() - make_interval(days => ${$.days}::integer)\n',
      'where t.issued_at < now()\n',
    ],
    'sweep: keeps the parent of a head': ['t.generation < s.generation - 1 or', 't.generation < s.generation or'],
    'sweep: takes an expired parent': [
      'or t.generation < s.generation and t.expires_at < now() as is_spent',
      'as is_spent',
    ],
    'sweep: keeps an idle session for the retention': [
      't.expires_at < now() - make_interval(days => ${$.days}::integer) as is_idle',
      't.expires_at < now() as is_idle',
    ],
    'sweep: takes idle sessions': ['where a.is_idle for update', 'where a.is_idle and false for update'],
    'sweep: waits for nobody who holds a token': [
      'where a.is_spent for update of t skip locked',
      'where a.is_spent for update of t',
    ],
    'sweep: does not skip ties': [
      'order by t.issued_at, t.session_id, t.generation limit 1000',
      'order by t.issued_at limit 1000',
    ],
  }),
]

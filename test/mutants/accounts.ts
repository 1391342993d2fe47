import { mutantsOf } from './mutant.ts'

const recovery = ['test/features/recovery/recovery.test.ts']
const recoveryEvents = ['test/features/audit/audit.test.ts', 'test/features/recovery/recovery.test.ts']
const quota = ['test/features/mail/mail-quota.test.ts']
const outbox = ['test/faults/outbox.test.ts']
const mail = ['test/faults/mail.test.ts']
const audit = ['test/features/audit/audit.test.ts']
const administration = ['test/contracts/kanban-admin.test.ts']
const settings = ['test/app/config.test.ts']
const links = ['test/features/recovery/one-time-tokens.test.ts']
const mailer = ['test/faults/mailer.test.ts']
const rows = ['test/app/import-rows.test.ts']

export const accountMutants = [
  ...mutantsOf('src/features/recovery/recovery.ts', recoveryEvents, {
    'recovery: a forgotten password takes its time': [
      "await inSteps(() => core.db.rows(requestReset, { ...origin, email, ...newLink(core, 'password_reset') }))",
      "await core.db.rows(requestReset, { ...origin, email, ...newLink(core, 'password_reset') })",
    ],
    'recovery: a new address takes its time': [
      'await inSteps(() =>\n    core.db.rows(requestEmailChange',
      'await ((ask: () => Promise<unknown>) => ask())(() =>\n    core.db.rows(requestEmailChange',
    ],
    'recovery: a refused link leaves an event': ['await record(core, type, { userId: null }, origin)\n', ''],
    'recovery: an address taken meanwhile is a refused link': [
      "if (violates(error, 'users_email_key')) return undefined\n",
      '',
    ],
    'recovery: a new address needs the password': [
      "await confirmPassword(core, account.id, password, '/password', origin)\n",
      '',
    ],
  }),
  ...mutantsOf('src/features/recovery/one-time-tokens.ts', recovery, {
    'links: have one spelling': ["secret.toString('base64url') === text && text !== ''", "text !== ''"],
  }),
  ...mutantsOf('src/features/mail/letters.ts', recovery, {
    'letters: a name that is not plain is left out': [
      "mail.name !== null && plainName.test(mail.name) ? mail.name : ''",
      "mail.name ?? ''",
    ],
    'letters: the token stands where the page wants it': [
      "if (target.includes('{token}')) return target.replaceAll('{token}', token)\n",
      '',
    ],
  }),
  ...mutantsOf('src/features/mail/mails.ts', recovery, {
    'links: to reset a password work for an hour': [
      "'passwordResetUrl', hours: 1 }",
      "'passwordResetUrl', hours: 10 }",
    ],
    'links: to change an address work for a day': [
      "'email_change', page: 'emailVerifyUrl', hours: 24 }",
      "'email_change', page: 'emailVerifyUrl', hours: 240 }",
    ],
  }),
  ...mutantsOf('src/features/recovery/links.sql.ts', quota, {
    'links: none beyond the quota': ['from ${from}, link_quota\n', 'from ${from}\n'],
  }),
  ...mutantsOf('src/features/recovery/links.sql.ts', links, {
    'links: of two that are asked for at once one is sent': [
      "${onceAMinute ? sql`where excluded.created_at - ${oneTimeTokens}.created_at > interval '1 minute'` : sql``}\n",
      '${onceAMinute ? sql`` : sql``}\n',
    ],
  }),
  ...mutantsOf('src/features/recovery/one-time-tokens.sql.ts', links, {
    'reset: a link of another purpose is told as one that does not work': [
      "t.purpose = 'password_reset' and t.expires_at > now()\n    and u.is_active",
      't.expires_at > now()\n    and u.is_active',
    ],
    'reset: an expired link is told as such': [
      "t.purpose = 'password_reset' and t.expires_at > now()\n    and u.is_active",
      "t.purpose = 'password_reset'\n    and u.is_active",
    ],
    'reset: the link of a disabled user is told as one that does not work': [
      '\n    and u.is_active and lower(',
      '\n    and lower(',
    ],
    'reset: the link of a former address is told as one that does not work': [
      '\n    and u.is_active and lower(u.email collate "C") = lower(t.email collate "C")`',
      '\n    and u.is_active`',
    ],
    'reset: a link of another purpose sets no password': [
      "t.purpose = 'password_reset' and t.expires_at > now()\n      and u.id",
      't.expires_at > now()\n      and u.id',
    ],
    'reset: a link that has expired meanwhile sets no password': [
      "t.purpose = 'password_reset' and t.expires_at > now()\n      and u.id",
      "t.purpose = 'password_reset'\n      and u.id",
    ],
    'reset: a user who was disabled meanwhile gets no password': [
      'and u.id = t.user_id and u.is_active and lower(',
      'and u.id = t.user_id and lower(',
    ],
    'reset: an address that has changed meanwhile gets no password': [
      ' and lower(u.email collate "C") = lower(t.email collate "C")\n    returning t.user_id\n',
      '\n    returning t.user_id\n',
    ],
    'confirmation: a former address does not come back': [
      '\n      and (t.purpose = \'email_change\' or lower(u.email collate "C") = lower(t.email collate "C"))',
      '',
    ],
    'confirmation: the other links stay': [
      ' and t.purpose <> spent.purpose and spent.moved',
      ' and t.purpose <> spent.purpose',
    ],
    'new address: none of a disabled user': [
      'u.id = ${$.userId}::integer and u.is_active for key share',
      'u.id = ${$.userId}::integer for key share',
    ],
    'new address: its last link stays': [
      '\n      and lower(t.email collate "C") <> lower(${$.email}::text collate "C")\n  )\n',
      '\n  )\n',
    ],
    'another link: not to a disabled user': [
      'u.is_active and u.email_verified_at is null',
      'u.email_verified_at is null',
    ],
    'another link: not asked for again within a minute': [
      "t.created_at >= now() - interval '1 minute'",
      "t.created_at > now() and t.purpose <> 'email_verify'",
    ],
    'another link: of its own kind': ["t.purpose = 'email_verify' and t.created_at >= now()", 't.created_at >= now()'],
  }),
  ...mutantsOf('src/features/recovery/one-time-tokens.sql.ts', recovery, {
    'reset: ends the sessions by the epoch': [
      ', ${raiseEpoch},\n      email_verified_at = coalesce(u.email_verified_at, present.moment), updated_at = now()\n    from spent, present where u.id = spent.user_id returning u.id, u.email, u.session_epoch',
      ',\n      email_verified_at = coalesce(u.email_verified_at, present.moment), updated_at = now()\n    from spent, present where u.id = spent.user_id returning u.id, u.email, u.session_epoch',
    ],
    'reset: confirms the address': [
      'email_verified_at = coalesce(u.email_verified_at, present.moment), updated_at',
      'updated_at',
    ],
    'reset: ends the other links': [
      "t.purpose <> 'password_reset'\n  ), ${endSessionsExcept",
      "t.purpose <> 'password_reset' and false\n  ), ${endSessionsExcept",
    ],
    'forgotten: a disabled user gets no link': ['and is_active\n    for key share', '\n    for key share'],
    'confirmation: an expired link is refused': [
      "t.purpose in ('email_verify', 'email_change') and t.expires_at > now()",
      "t.purpose in ('email_verify', 'email_change')",
    ],
    'confirmation: no link of another purpose': [
      "t.purpose in ('email_verify', 'email_change') and t.expires_at > now()",
      't.expires_at > now()',
    ],
    'confirmation: not while the user is disabled': [
      "and u.is_active\n      and (t.purpose = 'email_change'",
      "and (t.purpose = 'email_change'",
    ],
    'new address: nothing goes to an address of somebody else': [
      'and o.id <> owner.id',
      'and o.id <> owner.id and false',
    ],
    'new address: a request ends the one before': [
      "t.purpose = 'email_change' and not exists (select from link)",
      "t.purpose = 'email_change' and false and not exists (select from link)",
    ],
    'another link: not to an address that is confirmed': ['u.is_active and u.email_verified_at is null', 'u.is_active'],
  }),
  ...mutantsOf('src/features/mail/outbox.sql.ts', quota, {
    'quota: five in an hour': ['or quota.count < 5', 'or quota.count < 6'],
    'quota: notices are counted apart': [
      "withinQuota({ kind: 'notice', recipient",
      "withinQuota({ kind: 'link', recipient",
    ],
    'quota: counts an address in any case': ['convert_to(lower(${recipient} collate "C"),', 'convert_to(${recipient},'],
  }),
  ...mutantsOf('src/features/mail/outbox.sql.ts', links, {
    'quota: nobody without an address has one': [' where ${recipient} is not null', ''],
  }),
  ...mutantsOf('src/features/mail/outbox.sql.ts', mailer, {
    'outbox: a mail that is under way keeps its lease': [
      'set due_at = now() + ${lease} where ${claimed($)}',
      'set due_at = now() where ${claimed($)}',
    ],
    'outbox: a claim on what is out decides nothing': [
      ' and sent_at is null and dead_at is null`\n\n',
      ' and dead_at is null`\n\n',
    ],
    'outbox: a claim on what was given up decides nothing': [
      ' and sent_at is null and dead_at is null`\n\n',
      ' and sent_at is null`\n\n',
    ],
  }),
  ...mutantsOf('src/features/mail/mailer.ts', mailer, {
    'mailer: a server that is away is left alone': ['if (!answers) this.#pause()\n', ''],
    'mailer: a pause is kept': ['free === 0 || performance.now() < this.#pausedUntil', 'free === 0'],
    'mailer: the pauses grow': ['Math.max(this.#pauseMs * 2, pauseMs.first)', 'Math.max(this.#pauseMs, pauseMs.first)'],
    'mailer: the pauses begin anew': [
      'this.#answeredAt = performance.now()\n    this.#pauseMs = 0\n',
      'this.#answeredAt = performance.now()\n',
    ],
    'mailer: renews it no longer': ['clearInterval(holding)\n', ''],
    'mailer: renews the lease': ['this.#options.db.rows(holdMail, mail).catch(() => {})\n', ''],
    'mailer: does not claim what it has under way': ['except: [...this.#underWay.keys()].map(String)', 'except: []'],
    'mailer: has five under way': ['const free = atOnce - this.#underWay.size', 'const free = atOnce'],
  }),
  ...mutantsOf('src/features/mail/outbox.sql.ts', recovery, {
    'outbox: a name goes only to a confirmed address': ['and u.email_verified_at is not null\n', '\n'],
    'outbox: a name goes only to the address of its user': [
      '\n      and lower(u.email collate "C") = lower(c.recipient collate "C")',
      '',
    ],
  }),
  ...mutantsOf('src/features/mail/outbox.sql.ts', outbox, {
    'outbox: a mail that was given up is not claimed': [
      'where sent_at is null and dead_at is null and due_at <= now()',
      'where sent_at is null and due_at <= now()',
    ],
    'outbox: a mail that is under way is not claimed': ['\n      and id <> all(${$.except}::text[]::bigint[])', ''],
    'outbox: two workers claim no mail twice': [
      'limit ${$.limit}::integer for update skip locked',
      'limit ${$.limit}::integer',
    ],
    'outbox: a claim that has passed on decides nothing': [
      ' and claim = ${$.claim}::integer and sent_at',
      ' and sent_at',
    ],
    'outbox: what waits is not swept': [
      '\n      and coalesce(sent_at, dead_at) < now() - make_interval(days => ${$.days}::integer)',
      '',
    ],
  }),
  ...mutantsOf('src/features/mail/mailer.ts', outbox, {
    'mailer: sends nothing twice while it lives': ['await this.#noteOut()\n        const free', 'const free'],
    'mailer: a server that is away costs no attempt': [
      'if (!(await this.#isOwnFault(began))) return this.#release(mail)\n',
      '',
    ],
  }),
  ...mutantsOf('src/features/mail/mailer.ts', mail, {
    'mailer: a link that does not work is not sent': [
      "if (mail.data['nonce'] !== undefined && token === undefined) return this.#abandon(mail, 'LINK_OUTDATED')\n",
      '',
    ],
    'mailer: a refusal for good ends it': ['error.forGood ? this.#abandon(mail, error.code) : this', 'this'],
  }),
  ...mutantsOf('src/features/accounts/accounts.ts', ['test/features/accounts/accounts.test.ts', ...audit], {
    'accounts: an operator is told from a registration': ['byOperator: roles !== undefined', 'byOperator: false'],
    'accounts: one’s own names are no new password': [
      "[account.email, account.username, account.fullName], '/new_password'",
      "[], '/new_password'",
    ],
    'accounts: of two changes of the password one is lost': [
      "if (!result?.changed) throw incorrect('/current_password')\n",
      '',
    ],
    'accounts: the deletion needs the password': [
      "await confirmPassword(core, account.id, password, '/password', origin)\n",
      '',
    ],
    'accounts: the refusal to delete the last administrator is told': [
      'if (result?.isLastAdmin) throw await refusedLastAdmin(core, account.id, { ...origin, actorId: account.id })\n',
      '',
    ],
    'accounts: a wrong password leaves an event': [
      "await record(core, 'password.incorrect', { userId: id, actorId: id }, origin)\n",
      '',
    ],
  }),
  ...mutantsOf('src/features/login/passwords.ts', ['test/features/login/passwords.test.ts'], {
    'passwords: the decoy opens nothing': ['return usable && matched', 'return matched'],
    'passwords: an unknown user costs as much work': [
      'const hash = usable ? stored : await madeDecoy()',
      'if (!usable) return false\n      const hash = stored',
    ],
    'passwords: a hash of another variant is outdated': ["phc.variant !== 'id' || ", ''],
    'passwords: the memory of a check is bounded': ['phc.memory <= 262_144', 'phc.memory <= 2_621_440'],
    'passwords: the passes of a check are bounded': ['phc.time <= 16 &&', 'phc.time <= 1600 &&'],
    'passwords: the lanes of a check are bounded': [' && phc.parallelism <= 16', ''],
    'passwords: a run of neighbours is common': ['return steps.size === 1 ||', 'return'],
    'passwords: common in any case': ['commonPasswords.has(lower) || ', ''],
    'passwords: one’s own name with a number is one’s own name': [
      '(password === form || bare === form)',
      'password === form',
    ],
  }),
  ...mutantsOf('src/features/login/gate.ts', ['test/features/login/gate.test.ts'], {
    'gate: as many run as it is wide': ['this.#running < this.width', 'this.#running <= this.width'],
    'gate: as many wait as its length': ['this.#waiting.length >= this.length', 'this.#waiting.length > this.length'],
    'gate: a task that fails gives its place back': [
      '    try {\n      return await task()\n    } finally {\n      const next',
      '    const result = await task()\n    try {\n      return result\n    } finally {\n      const next',
    ],
  }),
  ...mutantsOf('src/features/accounts/administration.ts', [...audit, ...administration], {
    'administration: a search is literal': [".replaceAll(/[\\\\%_]/g, '\\\\$&')", ''],
    'administration: the last administrator keeps the role': [
      "isActive === false || revoke === 'admin' ||",
      'isActive === false ||',
    ],
    'administration: the refusal to change the last administrator is told': [
      '...account } = row\n  if (isLastAdmin) throw await refusedLastAdmin(core, id, actor)',
      '...account } = row\n  void isLastAdmin',
    ],
  }),
  ...mutantsOf('src/features/audit/audit.ts', audit, {
    'events: a missing role leaves one': [
      "await record(core, 'administration.refused', { userId, actorId: userId, detail }, origin)\n",
      '',
    ],
    'events: a refusal names who was refused': [
      "{ userId, actorId, detail: { code: 'last_admin' } }",
      "{ userId, detail: { code: 'last_admin' } }",
    ],
  }),
  ...mutantsOf('src/features/accounts/administration.sql.ts', [...audit, ...administration], {
    'administration: what changes nothing leaves no event': [' and cardinality(d.fields) > 0', ''],
    'administration: other letters of an address do not move it': [
      'lower(w.email collate "C") is distinct from lower(t.email collate "C") as is_moved',
      'w.email is distinct from t.email as is_moved',
    ],
    'administration: links to the old address end': [
      'using moved\n    where o.user_id',
      'using moved\n    where false and o.user_id',
    ],
    'administration: a new address is told to the old one': [
      'recipient: sql`moved.old_email`, from: sql`moved` })}',
      'recipient: sql`moved.old_email`, from: sql`(select * from moved where false) moved` })}',
    ],
    'administration: the event has the roles before and after': [
      "case when 'roles' = any(changed.fields) then",
      'case when false then',
    ],
  }),
  ...mutantsOf('src/cli/imported-user.ts', ['test/app/import.test.ts'], {
    'import: at most 16 roles': ['roles.length > 16 || ', ''],
    'import: no hash that is too costly': ['=> isBounded(value)', '=> value.length > 0'],
  }),
  ...mutantsOf('src/cli/imported-user.ts', ['test/app/import-safety.test.ts'], {
    'import: nobody loses a password that no field takes': [
      'const column = this.#withoutPasswords ? undefined : this.unusedHash(row)',
      'const column: string | undefined = undefined',
    ],
  }),
  ...mutantsOf('src/cli/imported-user.ts', rows, {
    'import: a moment without a zone is of UTC': ["zone = 'Z'] =", "zone = ''] ="],
  }),
  ...mutantsOf('src/cli/rows.ts', rows, {
    'import: a byte order mark is no part of a row': [".replace(/^\\uFEFF/, '')", ''],
    'import: a byte order mark stands at the beginning': ['line === 1 ? text.replace', 'line > 0 ? text.replace'],
  }),
  ...mutantsOf('src/cli/sample.ts', rows, {
    'import: looks at 1,000 rows first': ['first.length < sampleSize', 'first.length < sampleSize - 1'],
    'import: brings the rows that it looked at': ['yield* first\n', ''],
  }),
  ...mutantsOf('src/cli/columns.ts', ['test/app/import.test.ts'], {
    'import: an administrator of FastAPI Users stays one': [", is_admin: ['is_superuser']", ''],
  }),
  ...mutantsOf('src/cli/columns.ts', ['test/app/import-safety.test.ts'], {
    'import: a column that was named has to be there': ['named.push(column)\n', ''],
  }),
  ...mutantsOf('src/cli/password-hash.ts', ['test/app/import-safety.test.ts'], {
    'import: a hash is known by its value': [" || (typeof value === 'string' && hashShape.test(value))", ''],
  }),
  ...mutantsOf('src/cli/report.ts', ['test/app/import-safety.test.ts'], {
    'import: the report is for its owner': ["open(name, 'w', 0o600)", "open(name, 'w')"],
  }),
  ...mutantsOf('src/cli/keys.ts', ['test/app/keys-command.test.ts'], {
    'keys: the one that signs cannot be ended': ['if (ring.current()?.kid === kid)\n', "if (kid === '')\n"],
  }),
  ...mutantsOf('src/features/tokens/tokens.settings.ts', settings, {
    'settings: a key has 32 bytes': ['Buffer.byteLength(secret) < 32', 'Buffer.byteLength(secret) < 31'],
    'settings: a published key is refused': ['publishedSecrets.has(secret) || ', ''],
    'settings: JWT_SECRET is a key': ["      also: 'JWT_SECRET',\n", ''],
  }),
  ...mutantsOf('src/plugins/network.settings.ts', settings, {
    'settings: nobody trusts every address': ['Number(bits) > 0 && ', ''],
  }),
  ...mutantsOf('src/settings.ts', settings, {
    'settings: a secret is given once': [
      'if (result[name]) faults.push(`${name}: is given twice, as itself and as ${name}_FILE`)\n',
      '',
    ],
  }),
  ...mutantsOf('src/plugins/metrics.settings.ts', settings, {
    'settings: metrics are closed in production': ['isUnreadable && !production ?', 'isUnreadable ?'],
  }),
  ...mutantsOf('src/urls.ts', settings, {
    'settings: a password of a URL can be decoded': ['decodeURIComponent(username + password)\n', ''],
    'settings: an origin is as browsers write it': ['URL.parse(text)?.origin === text', 'URL.canParse(text)'],
    'settings: a comma in the password names no hosts': ['(?:[^@/?#]*@)?)([^/?#]*)', ')([^/?#]*)'],
  }),
  ...mutantsOf('src/db/connection.ts', ['test/faults/failover.test.ts'], {
    'failover: a commit that is not replicated is none': [
      'if (!this.#isUnreplicated) return resolve(rows)',
      'return resolve(rows)',
    ],
    'failover: a standby is left alone': [
      'if (primary && row?.standby) ',
      'if (primary && row?.standby && address.length === 0) ',
    ],
  }),
  ...mutantsOf('src/db/connects.ts', ['test/faults/failover.test.ts'], {
    'failover: every host is tried': ['tried < list.length; tried++', 'tried < 1; tried++'],
  }),
  ...mutantsOf('src/db/faults.ts', ['test/faults/failover.test.ts'], {
    'failover: nor is it run again': [' && !isUnreplicated(error)', ''],
    'failover: its outcome is open': [' || isUnreplicated(error) || (', ' || ('],
  }),
  ...mutantsOf('src/db/database.ts', ['test/faults/failover.test.ts'], {
    'failover: who only reads is no primary any more': ['if (isReadOnly(error)) this.#leaveStandby(connection)', ''],
    'failover: a busy connection to who was primary is not kept': [' && connection.openedAt >= this.#movedAt', ''],
  }),
  ...mutantsOf('src/db/connection.ts', ['test/db/pooler.test.ts'], {
    'pooler: a statement that is half described spoils its connection': [
      'if (isHalfDescribed(running)) this.#isUsable = false',
      '',
    ],
  }),
  ...mutantsOf('src/db/connection.ts', ['test/db/database.test.ts'], {
    'database: a cancel that fails ends the process': ['canceller(running).catch(() => {})', 'void canceller(running)'],
  }),
  ...mutantsOf('src/db/connect-alone.ts', ['test/faults/failover.test.ts'], {
    'failover: the start finds the primary, too': [
      'addresses.primary ? (place)',
      'addresses.list.length > 9 ? (place)',
    ],
  }),
  ...mutantsOf('src/db/budget.ts', ['test/db/budget.test.ts'], {
    'database: statements share a budget': ['this.#left -= ms\n', ''],
    'database: the budget ends with the answer': ['this.#left = Infinity\n', ''],
  }),
  ...mutantsOf('src/db/faults.ts', ['test/db/database.test.ts'], {
    'database: what was rolled back is sent again': ["new Set(['40001', ", 'new Set(['],
    'database: what may be repeated is, after a lost answer': [
      'return repeatable && isInDoubt(error) && !isDeadline(error)',
      'return false',
    ],
    'database: a statement whose plan has changed is sent again': ["'0A000', ", ''],
    'database: a statement that the server has lost is sent again': [", '26000'", ''],
    'database: a rule is known by its index': ["name?.replace(/_\\d{6,}$/, '') === index", 'name !== undefined'],
  }),
  ...mutantsOf('src/db/driver.ts', ['test/db/driver.test.ts'], {
    'database: a parameter is written once': [
      "(typeof value === 'string' ? value : write(value))",
      'write(value as In)',
    ],
    'database: words of a list are escaped': [".replaceAll(/[\"\\\\]/g, '\\\\$&')", ''],
  }),
  ...mutantsOf('src/db/migrate.ts', ['test/db/migrate.test.ts'], {
    'migrations: one instance at a time': ['await connection`select pg_advisory_lock(${lockKey})`\n', ''],
    'migrations: none on a newer database': [
      'if (applied.some((at) => !known.some(({ when }) => when === at)))',
      'if (applied.includes(0))',
    ],
    'migrations: none is left out': ['if (late)\n', 'if (late && pending.length === 0)\n'],
    'migrations: give way to statements': [
      "await connection`select set_config('lock_timeout', ${lockTimeout}, false)`\n",
      '',
    ],
    'migrations: give way before statements do': ["fill('300ms')", "fill('2s')"],
    'migrations: wait for an autovacuum in the end': ["'2s', '2s', '2s'", "'300ms', '300ms'"],
    'migrations: need no rights when there are none': [
      'if ((await pendingMigrations(connection, migrationsFolder)) === 0) return\n',
      '',
    ],
  }),
]

import { mutantsOf } from './mutant.ts'

const logins = ['test/app/limits-login.test.ts']
const routes = ['test/app/limits-routes.test.ts']
const who = ['test/app/limits-who.test.ts']
const addresses = ['test/app/limits-address.test.ts']
const limits = ['test/app/limits.test.ts']
const memory = ['test/app/limits-memory.test.ts']
/** Needs redis-server or TEST_REDIS_URL. */
const redis = ['test/app/limits-redis.test.ts']
const ring = ['test/core/key-ring.test.ts']
const keys = ['test/rfc/signing-keys.test.ts', ...ring]
const forgeries = ['test/rfc/rfc6750.test.ts']
const claims = ['test/rfc/rfc9068.test.ts']
const oauth = ['test/contracts/oauth.test.ts']
const input = ['test/app/input.test.ts']
const headers = ['test/app/headers.test.ts']
const operation = ['test/app/operation.test.ts']
const problems = ['test/rfc/rfc9457.test.ts']

export const edgeMutants = [
  ...mutantsOf('src/core/limits.ts', logins, {
    'limits: ten guesses at an account from an address': [
      "'login-account-address', max: 10,",
      "'login-account-address', max: 11,",
    ],
    'limits: a besieged account has two tries for an address': [
      'if (counted[1]?.exceeded) counted.push(required(await besieged.count(pair)))',
      '',
    ],
    'limits: one address does not besiege the others': ['besieged.count(pair)', 'besieged.count(account)'],
    'limits: a login that succeeds is no guess': ['await giveBack()\n    return result', 'return result'],
    'limits: a wrong password stays counted': ['if (!isWrongPassword(error)) await giveBack()', 'await giveBack()'],
    'limits: an account is one under all its names': ['if (userId !== undefined) return `user ${userId}`', ''],
  }),
  ...mutantsOf('src/core/limits.ts', limits, {
    'limits: guesses from an IPv6 network count together': [
      "networkOf(target.address ?? '')",
      "(target.address ?? '')",
    ],
  }),
  ...mutantsOf('src/core/limits.ts', routes, {
    'limits: a wrong confirmation is a guess': [" || error.code === 'password_incorrect'", ''],
    'limits: confirmations count by account': [
      'confirmations.count(String(userId))',
      "confirmations.count(userId === 0 ? '' : 'all')",
    ],
  }),
  ...mutantsOf('src/core/limits.ts', who, {
    'limits: a session refreshes 60 times': ['required(await refreshes.isFull(session))', ''],
    'limits: a refresh that succeeds is counted': [
      'const result = await attempt()\n    await count()',
      'const result = await attempt()',
    ],
    'limits: a made-up secret spends nothing': [" && error.code !== 'refresh_token_invalid'", ''],
  }),
  ...mutantsOf('src/plugins/rate-limit.ts', who, {
    'limits: full is full': ['tally.current >= limit.max', 'tally.current > limit.max'],
  }),
  ...mutantsOf('src/plugins/rate-limit.ts', routes, {
    'limits: each counts apart': ['return new Store(options)', 'return this'],
  }),
  ...mutantsOf('src/plugins/counters-in-memory.ts', memory, {
    'counters: hold no more keys than they may': ['sum + size, 0) < capacity', 'sum + size, 0) <= capacity'],
    'counters: what is near its limit stays': ['largest.shelves.find(', 'largest.shelves.findLast('],
    'counters: a window ends': ['if (entry && entry.endsAt > Date.now()) return entry', 'if (entry) return entry'],
    'counters: what is given back is not counted': ['entry.current--', ''],
  }),
  ...mutantsOf('src/plugins/counters-in-redis.ts', redis, {
    'redis: a count ends': ["if current == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end", ''],
    'redis: a server that answers nothing is left': ['socketTimeout: 500,', ''],
    'redis: without it requests are counted in memory': [
      'first.count(limit, key).catch(() => second.count(limit, key))',
      'first.count(limit, key)',
    ],
  }),
  ...mutantsOf('src/plugins/request-limit.ts', who, {
    'requests: a session is not counted by its address': [' && config.countedBySession !== true', ''],
    'requests: checks have a limit of their own': [
      'take(checksTokens ? checks : requests, `session',
      'take(requests, `session',
    ],
    'requests: a client is not counted by its address': ['await request.countedAs?.counted.giveBack()\n', ''],
  }),
  ...mutantsOf('src/plugins/request-limit.ts', limits, {
    'requests: monitors are left alone': ["new Set(['/health', ", 'new Set(['],
  }),
  ...mutantsOf('src/plugins/address.ts', addresses, {
    'address: only a client names its user': [
      'if (request.client !== null) request.userAddress',
      'request.userAddress',
    ],
    'address: a client of the body is known': ['if (request.client === null) recognise(request)\n', ''],
    'address: what is none is not taken': [
      "(typeof text === 'string' && readAddress(text))",
      "(typeof text === 'string' && text)",
    ],
  }),
  ...mutantsOf('src/address.ts', addresses, {
    'address: brackets and port are taken off': ['bracketed ?? dotted', 'dotted'],
    'address: a proxy may write its port': ['const address = readAddress(text)', 'const address = text'],
  }),
  ...mutantsOf('src/routes/limits.ts', routes, {
    'limits: 50 confirmations': ["'password-address', by, max: 50,", "'password-address', by, max: 51,"],
    'limits: 30 links': ["'reset', by, max: 30,", "'reset', by, max: 31,"],
    'limits: refreshes have their number': ['max: perMinute.refreshes', 'max: perMinute.logins'],
  }),
  ...mutantsOf('src/routes/grants.ts', logins, {
    'limits: logins of the other contracts': ['preHandler: limitLogins(app),', ''],
  }),
  ...mutantsOf('src/routes/kanban.ts', addresses, {
    'limits: POST /token': ['preHandler: limitLogins(app),', ''],
  }),
  ...mutantsOf('src/routes/kanban-recovery.ts', routes, {
    'limits: POST /reset-password': [
      "preHandler: limitLinks(app),\n      schema: {\n        operationId: 'resetPassword',",
      "schema: {\n        operationId: 'resetPassword',",
    ],
    'limits: POST /verify-email': [
      "preHandler: limitLinks(app),\n      schema: {\n        operationId: 'verifyEmail',",
      "schema: {\n        operationId: 'verifyEmail',",
    ],
    'limits: POST /me/email': ['preHandler: limitConfirmations(app),', ''],
  }),
  ...mutantsOf('src/routes/kanban-account.ts', routes, {
    'limits: POST /me/password': [
      "preHandler: limitConfirmations(app),\n      schema: {\n        operationId: 'changePassword',",
      "schema: {\n        operationId: 'changePassword',",
    ],
  }),
  ...mutantsOf('src/plugins/account-pages.ts', routes, {
    'limits: POST /account/reset-password': [
      'preHandler: limitLinks(app),\n      schema: {\n        hide: true,',
      'schema: {\n        hide: true,',
    ],
  }),
  ...mutantsOf('src/core/key-ring.ts', ring, {
    'keys: a new one does not sign at once': [
      'this.#signers.filter(({ signsFrom }) => signsFrom <= now)',
      'this.#signers.filter(() => now > 0)',
    ],
    'keys: an unknown one is looked for': ['await this.refresh()\n    return this.find', 'return this.find'],
    'keys: a header of nobody leads to no look': ['if (!isHeader(header)) return undefined\n', ''],
    'keys: one that signs does not lapse': [
      'if (current && this.#lapses(current)) await this.#db.rows(extendSigningKey, { kid: rowOf(current), seconds })',
      '',
    ],
    'keys: a former algorithm ends': [
      'await this.#db.rows(retireOtherAlgorithms, { algorithm: this.algorithm, seconds })',
      'void seconds',
    ],
    'keys: one verifies longer than its last token': [
      'leadSeconds + this.#tokenSeconds + marginSeconds',
      'leadSeconds + marginSeconds',
    ],
  }),
  ...mutantsOf('src/core/key-ring.ts', keys, {
    'keys: what no secret opens is replaced': ['await this.rotate({ leadSeconds })', 'void leadSeconds'],
  }),
  ...mutantsOf('src/core/sealing.ts', keys, {
    'sealing: another secret opens nothing': [
      '} catch {\n    return undefined\n  }',
      '} catch (error) {\n    throw error\n  }',
    ],
  }),
  ...mutantsOf('src/db/signing-keys.ts', ring, {
    'keys: a retired SECRET_KEY is not vouched for': ["\n  where ${signingKeys}.verifies_until > '-infinity'`", '`'],
    'keys: retired is for good': ["set verifies_until = '-infinity'", 'set verifies_until = now()'],
  }),
  ...mutantsOf('src/plugins/jwt.ts', forgeries, {
    'tokens: a signature has one spelling': ["if (!isCanonical(signature)) throw new Problem('token_invalid')\n", ''],
    'tokens: a user is an integer': [' || Number(claims.sub) > maxUserId', ''],
  }),
  ...mutantsOf('src/plugins/jwt.ts', claims, {
    'tokens: none outlives its session': [
      'Math.min(now + accessTokenSeconds, Math.floor(sessionExpiresAt.getTime() / 1000))',
      'now + accessTokenSeconds + 0 * sessionExpiresAt.getTime()',
    ],
    'tokens: the former secret still verifies': ['...(secretKeyPrevious ? [secretKeyPrevious] : [])', ''],
  }),
  ...mutantsOf('src/core/introspection.ts', oauth, {
    'introspection: a fault is no answer': [
      'if (error instanceof Problem && error.status === 401) return',
      'if (error instanceof Problem) return',
    ],
    'revocation: a fault is no success': ['if (!(error instanceof Problem && error.status === 401)) throw error', ''],
    'revocation: ends one session': ["core, token, 'local', sender", "core, token, 'global', sender"],
  }),
  ...mutantsOf('src/routes/oauth.ts', logins, {
    'oauth: the token endpoint is limited': [
      'await (isRefresh ? limits.refreshes : limits.logins).call(app, request, reply)',
      'void [isRefresh, reply]',
    ],
  }),
  ...mutantsOf('src/routes/oauth.ts', oauth, {
    'oauth: /revoke asks for the secret of a client': [
      'authenticateClient(request, oauthClients)\n      await revoke',
      'await revoke',
    ],
    'oauth: /introspect is for clients': [
      'requireClient(request, oauthClients)\n',
      'authenticateClient(request, oauthClients)\n',
    ],
  }),
  ...mutantsOf('src/routes/oauth-clients.ts', oauth, {
    'clients: authenticate in one way': ["(secret !== '' || (id !== '' && id !== basic.id))", "secret !== ''"],
    'clients: an unknown one with a secret is refused': [
      "(basic.secret !== '' || clients.has(basic.id))",
      'clients.has(basic.id)',
    ],
    'clients: a wrong secret is refused': [
      ' || !timingSafeEqual(digestOf(Buffer.from(secret)), digestOf(Buffer.from(expected)))',
      '',
    ],
  }),
  ...mutantsOf('src/routes/oauth-metadata.ts', oauth, {
    'metadata: stand where clients look': ['new Set([`${path}${issuerPath}`, ', 'new Set(['],
  }),
  ...mutantsOf('src/plugins/bodies.ts', input, {
    'bodies: are UTF-8': [
      "if (!isUtf8(body)) return done(new Problem('invalid_request', { detail: 'The body is not UTF-8.' }))",
      '',
    ],
    'bodies: hold no __proto__': ["getDefaultJsonParser('error', 'error')", "getDefaultJsonParser('ignore', 'error')"],
    'bodies: hold no lone surrogate': [' || !value.isWellFormed()', ''],
    'bodies: of a form are read whole': ['maxKeys: 0', 'maxKeys: 1000'],
  }),
  ...mutantsOf('src/plugins/headers.ts', operation, {
    'headers: nobody may frame': ["'x-frame-options': 'DENY',", ''],
  }),
  ...mutantsOf('src/plugins/headers.ts', headers, {
    'headers: only listed origins': ['origin: [...corsOrigins]', 'origin: true'],
  }),
  ...mutantsOf('src/plugins/errors.ts', headers, {
    'errors: a preflight makes no path known': ["if (url === '*') return\n", ''],
  }),
  ...mutantsOf('src/plugins/errors.ts', ['test/app/routes.test.ts'], {
    'errors: a known method that finds nothing is a 404': [' && !allowed.includes(request.method)', ''],
  }),
  ...mutantsOf('src/plugins/errors.ts', problems, {
    'errors: a pointer is escaped': ['${instancePath}/${escapePointer(name)}', '${instancePath}/${name}'],
  }),
  ...mutantsOf('src/plugins/metrics.ts', operation, {
    'metrics: a wrong token is refused': ['token === undefined || !timingSafeEqual(...digests)', 'token === undefined'],
    'metrics: no token is one that nobody has': ['token === undefined || !timingSafeEqual', '!timingSafeEqual'],
  }),
]

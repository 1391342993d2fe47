import { mutantsOf } from './mutant.ts'

const logins = ['test/app/limits-login.test.ts']
const routes = ['test/app/limits-routes.test.ts']
const who = ['test/app/limits-who.test.ts']
const addresses = ['test/app/limits-address.test.ts']
const limits = ['test/app/limits.test.ts']
const memory = ['test/app/limits-memory.test.ts']
/** Needs redis-server or TEST_REDIS_URL. */
const redis = ['test/app/limits-redis.test.ts']
const ring = ['test/features/tokens/key-ring.test.ts']
const keys = ['test/rfc/signing-keys.test.ts', ...ring]
const forgeries = ['test/rfc/rfc6750.test.ts']
const claims = ['test/rfc/rfc9068.test.ts']
const oauth = ['test/contracts/oauth.test.ts']
const input = ['test/app/input.test.ts']
const headers = ['test/app/headers.test.ts']
const operation = ['test/app/operation.test.ts']
const problems = ['test/rfc/rfc9457.test.ts']
const current = ['test/features/tokens/key-ring-current.test.ts']
const documented = ['test/app/limits-documented.test.ts']
const readiness = ['test/app/readiness.test.ts']
const reuse = ['test/rfc/rfc9700.test.ts']

export const edgeMutants = [
  ...mutantsOf('src/features/limits.ts', logins, {
    'limits: ten guesses at an account from an address': [
      "'login-account-address', max: 10,",
      "'login-account-address', max: 11,",
    ],
    'limits: a besieged account has two tries for an address': [
      'if (counted[1]?.exceeded) counted.push(required(await attackedAccount.count(pair)))',
      '',
    ],
    'limits: one address does not besiege the others': [
      'attackedAccount.count(pair)',
      'attackedAccount.count(account)',
    ],
    'limits: a login that succeeds is no guess': ['await giveBack()\n    return result', 'return result'],
    'limits: a wrong password stays counted': ['if (!isWrongPassword(error)) await giveBack()', 'await giveBack()'],
    'limits: an account is one under all its names': ['if (userId !== undefined) return `user ${userId}`', ''],
    'limits: a name that nobody has is one in any case': ['update(name.toLowerCase())', 'update(name)'],
    'limits: a fault of the database is no guess': [
      'if (!isWrongPassword(error)) await giveBack()',
      'if (error instanceof Problem && error.status < 500 && !isWrongPassword(error)) await giveBack()',
    ],
  }),
  ...mutantsOf('src/features/limits.ts', documented, {
    'limits: guesses have their window': [
      "'login-account', max: 100, per: hour",
      "'login-account', max: 100, per: minute",
    ],
  }),
  ...mutantsOf('src/features/limits.ts', limits, {
    'limits: guesses from an IPv6 network count together': [
      "networkOf(target.address ?? '')",
      "(target.address ?? '')",
    ],
  }),
  ...mutantsOf('src/features/limits.ts', routes, {
    'limits: a wrong confirmation is a guess': [" || error.code === 'password_incorrect'", ''],
    'limits: confirmations count by account': [
      'confirmations.count(String(userId))',
      "confirmations.count(userId === 0 ? '' : 'all')",
    ],
  }),
  ...mutantsOf('src/features/limits.ts', who, {
    'limits: a session refreshes 60 times': ['required(await refreshes.isFull(session))', ''],
    'limits: a refresh that succeeds is counted': [
      'const result = await attempt()\n    await count()',
      'const result = await attempt()',
    ],
    'limits: a fault of the database spends no refresh': ['error.status === 401 && error.code', 'error.code'],
    'limits: a made-up secret spends nothing': [" && error.code !== 'refresh_token_invalid'", ''],
  }),
  ...mutantsOf('src/plugins/rate-limit.ts', who, {
    'limits: full is full': ['tally.current >= limit.max', 'tally.current > limit.max'],
  }),
  ...mutantsOf('src/plugins/rate-limit.ts', routes, {
    'limits: each counts apart': ['return new Store(options)', 'return this'],
    'limits: one name means one limit': ['knownMax !== max || knownPer !== per', 'knownMax !== knownMax'],
    'limits: the window belongs to the limit': ['knownMax !== max || knownPer !== per', 'knownMax !== max'],
  }),
  ...mutantsOf('src/plugins/counters-in-memory.ts', memory, {
    'counters: hold no more keys than they may': ['sum + size, 0) < capacity', 'sum + size, 0) <= capacity'],
    'counters: what is near its limit stays': ['largest.shelves.find(', 'largest.shelves.findLast('],
    'counters: a window ends': ['if (entry && entry.endsAt > Date.now()) return entry', 'if (entry) return entry'],
    'counters: what is given back is not counted': ['entry.current--', ''],
    'counters: what has ended leaves its place': ['for (const shelf of shelves) shelf.dropExpired()\n', ''],
  }),
  ...mutantsOf('src/plugins/counters-in-redis.ts', redis, {
    'redis: one is given back': ["if current > 1 then redis.call('DECR', KEYS[1]) elseif", 'if'],
    'redis: no key stays for nothing': ["elseif current == 1 then redis.call('DEL', KEYS[1]) end", 'end'],
    'redis: a count ends': ["if current == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end", ''],
    'redis: a server that answers nothing is left': ['socketTimeout: 500,', ''],
    'redis: without it requests are counted in memory': [
      'first.count(limit, key).catch(() => second.count(limit, key))',
      'first.count(limit, key)',
    ],
  }),
  ...mutantsOf('src/plugins/request-limit.ts', documented, {
    'requests: have their window': ['max: perMinute.requests, per: 60', 'max: perMinute.requests, per: 3600'],
  }),
  ...mutantsOf('src/plugins/request-limit.ts', who, {
    'requests: checks have their window': ['max: perMinute.checks, per: 60', 'max: perMinute.checks, per: 3600'],
    'requests: a session is not counted by its address': [' && config.countedBySession !== true', ''],
    'requests: checks have a limit of their own': [
      'take(checksTokens ? checks : requests, `session',
      'take(requests, `session',
    ],
    'requests: a client is not counted by its address': ['await request.countedAs?.counted.giveBack()\n', ''],
  }),
  ...mutantsOf('src/plugins/request-limit.ts', routes, {
    'requests: an IPv6 network is one sender': [': networkOf(addressOf(request))', ': addressOf(request)'],
    'requests: so it is with a token that is refused': [
      'await take(requests, networkOf(addressOf(request)))',
      'await take(requests, addressOf(request))',
    ],
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
    'limits: an IPv6 network is one sender to a route': ['networkOf(addressOf(request))', 'addressOf(request)'],
    'limits: refreshes have their number': ['max: perMinute.refreshes', 'max: perMinute.logins'],
  }),
  ...mutantsOf('src/routes/limits.ts', documented, {
    'limits: logins have their window': [
      'max: perMinute.logins, per: minute',
      'max: perMinute.logins, per: 60 * minute',
    ],
    'limits: links have their window': ["'reset', by, max: 30, per: 10 * minute", "'reset', by, max: 30, per: minute"],
  }),
  ...mutantsOf('src/address.ts', limits, {
    'address: a network of IPv6 is a /64': ['normalizeIP(address, 64)', 'normalizeIP(address, 56)'],
  }),
  ...mutantsOf('src/routes/grants.ts', logins, {
    'limits: logins of the other contracts': ['preHandler: limitLogins(app),', ''],
  }),
  ...mutantsOf('src/routes/v1/login.ts', addresses, {
    'limits: POST /token': ['preHandler: limitLogins(app),', ''],
  }),
  ...mutantsOf('src/routes/v1/recovery.ts', routes, {
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
  ...mutantsOf('src/routes/v1/account.ts', routes, {
    'limits: POST /me/password': [
      "preHandler: limitConfirmations(app),\n      schema: {\n        operationId: 'changePassword',",
      "schema: {\n        operationId: 'changePassword',",
    ],
  }),
  ...mutantsOf('src/routes/pages/account-pages.ts', routes, {
    'limits: POST /account/reset-password': [
      'preHandler: limitLinks(app),\n      schema: {\n        hide: true,',
      'schema: {\n        hide: true,',
    ],
  }),
  ...mutantsOf('src/features/tokens/key-ring.ts', ring, {
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
  ...mutantsOf('src/features/tokens/key-ring.ts', current, {
    'keys: who forges headers causes one look a second': [
      'await setTimeout(Math.max(0, this.#refreshedAt + refreshEveryMs - performance.now()))',
      'await setTimeout(0)',
    ],
    'keys: one that is to come signs when there is no other': [' ?? this.#signers.findLast(this.#isOwn)', ''],
    'keys: of those to come the first signs': ['this.#signers.findLast(', 'this.#signers.find('],
    'keys: none of HS256 is made': ["if (this.algorithm === 'HS256') return false\n", ''],
  }),
  ...mutantsOf('src/features/tokens/signing-key.ts', current, {
    'keys: the former secret opens one': [
      'unseal(privateKey, secrets, purpose)',
      'unseal(privateKey, secrets.slice(0, 1), purpose)',
    ],
  }),
  ...mutantsOf('src/features/tokens/signing-keys.sql.ts', current, {
    'keys: of two rotations by age one happens': [
      '\n      and created_at <= now() - make_interval(secs => ${$.minAgeSeconds}::integer)',
      '\n      and ${$.minAgeSeconds}::integer is not null',
    ],
    'keys: nobody cuts short what others vouch for': [
      'greatest(${signingKeys}.verifies_until, excluded.verifies_until)',
      'excluded.verifies_until',
    ],
    'keys: who extends cuts nothing short': [' and verifies_until < ${fromNow($.seconds)}', ''],
    'keys: a retired one is not extended': ['and verifies_until > now() and verifies_until <', 'and verifies_until <'],
  }),
  ...mutantsOf('src/features/tokens/key-ring.ts', keys, {
    'keys: what no secret opens is replaced': ['await this.rotate({ leadSeconds })', 'void leadSeconds'],
  }),
  ...mutantsOf('src/db/sealing.ts', keys, {
    'sealing: another secret opens nothing': [
      '} catch {\n    return undefined\n  }',
      '} catch (error) {\n    throw error\n  }',
    ],
  }),
  ...mutantsOf('src/db/sealing.ts', ['test/db/sealing.test.ts'], {
    'sealing: each has a nonce of its own': ['randomBytes(12)', 'Buffer.alloc(12)'],
    'sealing: the id is that of the key for the purpose': ['`${purpose} key id`', "'key id'"],
    'sealing: what has no id is tried with every secret': [
      'secrets.map((former) => open(',
      'secrets.slice(0, 1).map((former) => open(',
    ],
    'sealing: what was changed is not opened': [
      'decipher.update(sealed.subarray(28)), decipher.final()',
      'decipher.update(sealed.subarray(28))',
    ],
  }),
  ...mutantsOf('src/features/tokens/signing-keys.sql.ts', ring, {
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
    'tokens: each has an id of its own': ['jti: randomUUID()', 'jti: sessionId'],
    'tokens: the former secret still verifies': ['...(secretKeyPrevious ? [secretKeyPrevious] : [])', ''],
  }),
  ...mutantsOf('src/features/tokens/introspection.ts', reuse, {
    'introspection: a token that would end its session is not active': [" || standing === 'reused'", ''],
  }),
  ...mutantsOf('src/features/tokens/introspection.ts', oauth, {
    'introspection: a fault is no answer': [
      'if (error instanceof Problem && error.status === 401) return',
      'if (error instanceof Problem) return',
    ],
    'revocation: a fault is no success': ['if (!(error instanceof Problem && error.status === 401)) throw error', ''],
    'revocation: ends one session': [
      "ByRefreshToken(core, token, 'local', sender",
      "ByRefreshToken(core, token, 'global', sender",
    ],
  }),
  ...mutantsOf('src/routes/oauth/token.ts', logins, {
    'oauth: the token endpoint is limited': [
      'await (isRefresh ? limits.refreshes : limits.logins).call(app, request, reply)',
      'void [isRefresh, reply]',
    ],
  }),
  ...mutantsOf('src/routes/oauth/revoke.ts', oauth, {
    'oauth: /revoke asks for the secret of a client': [
      'authenticateClient(request, oauthClients)\n      await revoke',
      'await revoke',
    ],
  }),
  ...mutantsOf('src/routes/oauth/clients.ts', oauth, {
    'oauth: /introspect is for clients': ['if (id === undefined) throw refused()\n', ''],
    'clients: authenticate in one way': ["(secret !== '' || (id !== '' && id !== basic.id))", "secret !== ''"],
    'clients: an unknown one with a secret is refused': [
      "(basic.secret !== '' || clients.has(basic.id))",
      'clients.has(basic.id)',
    ],
    'clients: a secret goes on to the end': ["rest.join(':')", "(rest[0] ?? '')"],
    'clients: a wrong secret is refused': [
      ' || !timingSafeEqual(digestOf(Buffer.from(secret)), digestOf(Buffer.from(expected)))',
      '',
    ],
  }),
  ...mutantsOf('src/routes/oauth/clients.ts', ['test/rfc/rfc6749.test.ts'], {
    'clients: credentials are form-encoded': ['decodeURIComponent(text)', 'text'],
  }),
  ...mutantsOf('src/contracts.ts', ['test/contracts/shared.test.ts'], {
    'contracts: the canonical API is always there': [
      "if (!mounts.has('kanban')) mounts.set('kanban', { name: 'kanban', at: '' })\n",
      '',
    ],
  }),
  ...mutantsOf('src/routes/oauth/metadata.ts', oauth, {
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
  ...mutantsOf('src/plugins/readiness.ts', readiness, {
    'health: who leaves is not ready': [
      "if (app.isDraining()) throw new Problem('unavailable', { cause: 'closing', headers: { 'retry-after': '5' } })\n",
      '',
    ],
  }),
  ...mutantsOf('src/server.ts', ['test/app/drain.test.ts'], {
    'drain: connections are accepted for a while': [
      'await setTimeout(err ? Math.min(drainMs, 1000) : drainMs)',
      'void setTimeout',
    ],
  }),
  ...mutantsOf('src/plugins/draining.ts', readiness, {
    'health: who drains keeps no connection': ["if (draining) reply.header('connection', 'close')\n", ''],
  }),
  ...mutantsOf('src/routes/operation.ts', operation, {
    'metrics: a wrong token is refused': ['token === undefined || !timingSafeEqual(...digests)', 'token === undefined'],
    'metrics: no token is one that nobody has': ['token === undefined || !timingSafeEqual', '!timingSafeEqual'],
  }),
  ...mutantsOf('src/app.ts', ['test/app/routes.test.ts'], {
    'access: every route is marked': ['requireAccessMark(app)\n', ''],
  }),
]

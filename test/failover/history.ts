/** A token that was handed out, as its client knows it. */
export interface Issued {
  readonly session: string
  readonly generation: number
  readonly token: string
}

/** One request of one client and what became of it; times in milliseconds of one clock. */
export interface Exchange {
  readonly client: number
  readonly verb: 'login' | 'refresh' | 'me' | 'logout' | 'password'
  readonly sentAt: number
  readonly endedAt: number
  /** 0: no answer. */
  readonly status: number
  /** The code of the problem, or ''. */
  readonly code: string
  /** Of the token that was presented. */
  readonly session?: string
  readonly generation?: number
  /** Passwords of a client are numbered: that of a login, or the new one of a change. */
  readonly version?: number
  readonly scope?: 'local' | 'global'
  readonly issued?: Issued
}

/** What no fault may do, each with the exchanges that show it. */
export interface Violations {
  /** A token that was handed out and is not known. */
  readonly unknown: Exchange[]
  /** A session ended by a reuse, although every client is honest. */
  readonly reused: Exchange[]
  /** A second successor of one generation, or one that is not the next. */
  readonly forked: Exchange[]
  /** A 401 for which the client gave no cause. */
  readonly refused: Exchange[]
  /** A session or password that works although its end was acknowledged. */
  readonly undone: Exchange[]
  /** A status that no fault excuses, or no answer at all for as long as a client waits. */
  readonly failed: Exchange[]
}

/** A request without an answer is over, whatever became of it, after so many milliseconds. */
const afterlifeMs = 30_000
/** Milliseconds that a client waits for an answer: more than three times what the service promises. */
export const patienceMs = 10_000
/** In place of a code: the client gave up after that, and not because it meant to lose the answer. */
export const hung = 'no_answer'
/** The load balancer itself gives a 502 for an instance that was killed. */
const excused = new Set([0, 200, 201, 204, 401, 502, 503])

/** Checks a history whose clients are honest, and each in one place at a time except for the same refresh sent twice. */
export function violationsOf(history: readonly Exchange[]): Violations {
  const byClient = Map.groupBy(history, ({ client }) => client)
  const own = ({ client }: Exchange) => byClient.get(client) ?? []
  const refusals = history.filter(({ status }) => status === 401)
  const has = (code: string) => refusals.filter((one) => one.code === code)
  const other = refusals.filter(({ code }) => !['refresh_token_invalid', 'refresh_token_reused'].includes(code))
  return {
    unknown: has('refresh_token_invalid'),
    reused: has('refresh_token_reused'),
    forked: forksIn(history),
    refused: other.filter((one) => !isExplained(one, own(one))),
    undone: history.filter((one) => one.status === 200 && usesEnded(one, own(one))),
    failed: history.filter((one) => !excused.has(one.status) || one.code === hung),
  }
}

/** How many logouts and changes of password were acknowledged, and how often what they ended was tried afterwards. */
export function endingsIn(history: readonly Exchange[]): { logouts: number; passwords: number; tried: number } {
  const byClient = Map.groupBy(history, ({ client }) => client)
  const done = history.filter(({ status }) => status === 204)
  return {
    logouts: done.filter(({ verb }) => verb === 'logout').length,
    passwords: done.filter(({ verb }) => verb === 'password').length,
    tried: history.filter((one) => one.status === 401 && usesEnded(one, byClient.get(one.client) ?? [])).length,
  }
}

function forksIn(history: readonly Exchange[]): Exchange[] {
  const first = new Map<string, string>()
  return history.filter(({ generation, session, issued }) => {
    if (issued === undefined) return false
    const key = `${issued.session} ${issued.generation}`
    const known = first.get(key) ?? issued.token
    first.set(key, known)
    const isNext = generation === undefined || (issued.session === session && issued.generation === generation + 1)
    return known !== issued.token || !isNext
  })
}

function isExplained(one: Exchange, own: readonly Exchange[]): boolean {
  if (one.verb === 'login') return own.some((other) => mayHaveReplaced(other, one)) || one.version !== knownBy(own, one)
  // An earlier attempt counted whose answer was lost.
  if (one.code === 'password_incorrect') return own.some((other) => isAttempt(other, one) && other.status !== 204)
  return own.some((other) => other.sentAt < one.endedAt && mayEnd(other, one, own))
}

/** Whether a change of password may have been done by the time of a login with an older one. */
function mayHaveReplaced({ verb, version = 0, sentAt }: Exchange, login: Exchange): boolean {
  return verb === 'password' && version > (login.version ?? 0) && sentAt < login.endedAt
}

function isAttempt({ verb, version, sentAt }: Exchange, change: Exchange): boolean {
  return verb === 'password' && version === change.version && sentAt < change.sentAt
}

/** The newest password that counts for certain when a request is sent: acknowledged, or used since. */
function knownBy(own: readonly Exchange[], { sentAt }: Exchange): number {
  const proofs = own.filter(
    ({ verb, status, endedAt }) =>
      endedAt <= sentAt && ((verb === 'password' && status === 204) || (verb === 'login' && status === 200)),
  )
  return Math.max(0, ...proofs.map(({ version = 0 }) => version))
}

/** Whether this logout or change of password, done or not, may have ended the session of the other request. */
function mayEnd(ending: Exchange, { session }: Exchange, own: readonly Exchange[]): boolean {
  if (ending.verb === 'logout' && ending.scope === 'local') return ending.session === session
  if (!isForAll(ending, session)) return false
  const until = ending.status === 204 ? ending.endedAt : ending.sentAt + afterlifeMs
  return openingOf(session, own).sentAt < until
}

/** Whether this acknowledged logout or change of password has ended the session, opened before, of a later request. */
function hasEnded(ending: Exchange, { session, sentAt }: Exchange, own: readonly Exchange[]): boolean {
  if (ending.status !== 204 || ending.endedAt > sentAt) return false
  if (ending.verb === 'logout' && ending.scope === 'local') return ending.session === session
  return isForAll(ending, session) && openingOf(session, own).endedAt < ending.sentAt
}

function isForAll(ending: Exchange, session: string | undefined): boolean {
  if (ending.verb === 'logout') return ending.scope === 'global'
  return ending.verb === 'password' && ending.session !== session
}

function openingOf(session: string | undefined, own: readonly Exchange[]): Pick<Exchange, 'sentAt' | 'endedAt'> {
  const opening = own.find(({ verb, issued }) => verb === 'login' && issued?.session === session)
  return opening ?? { sentAt: -Infinity, endedAt: -Infinity }
}

/** Whether it uses what an acknowledged logout or change of password had ended before. */
function usesEnded(one: Exchange, own: readonly Exchange[]): boolean {
  if (one.verb === 'login') return (one.version ?? 0) < knownBy(own, one)
  if (one.verb !== 'refresh' && one.verb !== 'me') return false
  return own.some((ending) => hasEnded(ending, one, own))
}

/** The longest time, in milliseconds, between `from` and `to` in which no refresh came to a good end. */
export function longestOutage(history: readonly Exchange[], from: number, to: number): number {
  const ends = history
    .filter(({ verb, status, endedAt }) => verb === 'refresh' && status === 200 && endedAt > from && endedAt < to)
    .map(({ endedAt }) => endedAt)
    .toSorted((a, b) => a - b)
  return Math.max(...[...ends, to].map((end, i) => end - (i === 0 ? from : (ends[i - 1] ?? from))))
}

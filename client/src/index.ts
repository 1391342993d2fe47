import type { components } from './api.js'

export type { components, operations, paths } from './api.js'

type Schemas = components['schemas']
export type User = Schemas['User']
export type Session = Schemas['Session']
/** The codes of the service; `unreachable` when it did not answer, `no_window` outside of a browser. */
export type ErrorCode = Schemas['Problem']['code'] | 'unreachable' | 'no_window'

/** What an app shows; the same object as long as it is the same session. */
export interface State {
  readonly status: 'signed_in' | 'signed_out'
  readonly session?: string
}

export interface ClientOptions {
  /** Of the service, such as `https://auth.example.com`; without what its routes begin with. */
  readonly url: string
  /** Where the refresh token is kept: in an HttpOnly cookie (the default), or in `storage`. */
  readonly transport?: 'cookie' | 'storage'
  /** `localStorage` if left out; what is in any other is not shared with other tabs. */
  readonly storage?: Storage
  readonly fetch?: typeof globalThis.fetch
  /** The origins that `fetch` sends the access token to: that of the service if left out. */
  readonly apis?: readonly string[]
}

export type Client = ReturnType<typeof createClient>

/** A call that was refused, or that nobody answered. */
export class LatchkeyError extends Error {
  readonly code: ErrorCode
  /** Of the reply; 0 when there was none. */
  readonly status: number
  /** Seconds until it may be tried again, if the service said so. */
  readonly retryAfter: number | undefined
  /** What is wrong with a field, by its name. */
  readonly fields: Readonly<Record<string, string>>

  constructor(code: ErrorCode, message: string, { status = 0, retryAfter, body }: Partial<Reply> = {}) {
    super(message)
    this.name = 'LatchkeyError'
    this.code = code
    this.status = status
    this.retryAfter = retryAfter
    this.fields = Object.fromEntries((body?.errors ?? []).map(({ pointer, detail }) => [pointer.slice(1), detail]))
  }
}

/** What a tab knows of its session; `until` is the end of the access token by the clock of this machine. */
interface Held {
  readonly session: string
  readonly generation: number
  readonly until: number
  readonly accessToken?: string | undefined
  readonly refreshToken?: string | undefined
}

type Init = Omit<RequestInit, 'headers'> & { readonly headers?: Record<string, string> }

interface Reply {
  readonly status: number
  readonly retryAfter: number | undefined
  readonly body: Partial<Schemas['Problem'] & Schemas['Tokens']> | undefined
}

const attemptMs = 2500
const patienceMs = 9000
const callMs = 15_000
const signedOut: State = Object.freeze({ status: 'signed_out' })
const ignore = () => {}
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const between = (least: number, most: number) => least + Math.random() * (most - least)

/** Keeps one session in all tabs of an origin. Nothing is asked of the service until something needs it. */
export function createClient({ url, transport, storage, fetch: ownFetch, apis }: ClientOptions) {
  const page = globalThis.window as Window | undefined
  const base = `${url.replace(/\/+$/, '')}/api/v1`
  const key = `latchkey:${base}`
  const inCookie = transport !== 'storage'
  const send: typeof globalThis.fetch = (input, init) => (ownFetch ?? fetch)(input, init)
  const listeners = new Set<(state: State) => void>()
  const disposal = new AbortController()
  let held: Held | undefined
  let snapshot = signedOut
  /** The last session that ended: an answer that comes late does not bring it back. */
  let ended: string | undefined
  let renewing: Promise<void> | undefined
  /** Ends a renewal of a session that is no longer the one here: its cookie must not replace the new one. */
  let flight = new AbortController()
  let unsentSignOut: (() => Promise<void>) | undefined
  let timer: ReturnType<typeof setTimeout> | undefined
  let channel: BroadcastChannel | undefined
  /** What stands in for a storage that is full, forbidden or absent. */
  let memory: string | null = null
  let isStored = true

  function useStorage<T>(use: (storage: Storage) => T): T | undefined {
    try {
      if (isStored) return use(storage ?? (page as Window).localStorage)
    } catch {
      isStored = false
    }
  }

  function read(): Held | undefined {
    const text = useStorage((storage) => storage.getItem(key))
    try {
      const stored = JSON.parse((isStored ? text : memory) ?? '') as Held
      return stored.session && stored.generation >= 0 ? stored : undefined
    } catch {
      return undefined
    }
  }

  function write(next: Held | undefined): void {
    memory = next ? JSON.stringify(inCookie ? { ...next, accessToken: undefined } : next) : null
    useStorage((storage) => (memory === null ? storage.removeItem(key) : storage.setItem(key, memory)))
  }

  /** Whether a cookie may be all that is left of a session. */
  let mayHaveCookie = inCookie && page !== undefined && read() === undefined && !isStored

  function lasts(seconds: number): boolean {
    return held?.accessToken !== undefined && held.until - Date.now() > seconds * 1000
  }

  function hold(next: Held | undefined): void {
    if (next === held) return
    held = next
    setTimer()
    if (next?.session === snapshot.session) return
    flight.abort()
    flight = new AbortController()
    snapshot = next ? Object.freeze({ status: 'signed_in', session: next.session }) : signedOut
    listeners.forEach(tell)
  }

  function tell(listener: (state: State) => void): void {
    try {
      listener(snapshot)
    } catch (error) {
      reportError(error)
    }
  }

  function begin(next: Held): void {
    mayHaveCookie = false
    write(next)
    hold(next)
    channel?.postMessage(next)
  }

  function end(): void {
    ended = held?.session
    mayHaveCookie = false
    write(undefined)
    channel?.postMessage({ session: ended })
    hold(undefined)
  }

  /** Takes over what another tab has stored, or stores again what an older answer has overwritten. */
  function look(): void {
    const stored = read()
    if (stored && stored.session === ended) write(undefined)
    if (!stored || stored.session === ended) return hold(undefined)
    if (stored.session !== held?.session) return hold(stored)
    if (stored.generation < held.generation) return write(held)
    if (stored.generation > held.generation) hold(inCookie ? { ...held, generation: stored.generation } : stored)
  }

  /** A message is a hint: what it brings is taken only if it is newer, and what is stored says whose session it is. */
  function hear({ data }: MessageEvent<Held | { session: string; generation?: undefined }>): void {
    if (data.generation === undefined) ended = data.session
    look()
    if (data.generation === undefined || data.session === ended) return
    if (held?.session === data.session ? held.generation > data.generation : held && isStored) return
    mayHaveCookie = false
    write(data)
    hold(data)
  }

  function setTimer(): void {
    clearTimeout(timer)
    if (!held || page?.document.visibilityState !== 'visible' || disposal.signal.aborted) return
    const early = held.until - Date.now() - between(45_000, 75_000)
    timer = setTimeout(() => void renew().catch(setTimer), Math.max(early, between(15_000, 30_000)))
  }

  /** What a page does that was away, asleep or without a network. */
  function wake(): void {
    look()
    setTimer()
    const again = unsentSignOut
    unsentSignOut = undefined
    void again?.().catch(ignore)
    if (held && !lasts(60) && page?.document.visibilityState === 'visible') void renew().catch(ignore)
  }

  function requireWindow(): void {
    if (!page) throw new LatchkeyError('no_window', 'This call needs a browser: there is no window here.')
  }

  async function ask(path: string, init: Init, ms = callMs, via = send): Promise<Reply> {
    requireWindow()
    try {
      const reply = await via(base + path, {
        credentials: inCookie ? 'include' : 'omit',
        ...init,
        signal: AbortSignal.any([AbortSignal.timeout(ms), ...(init.signal ? [init.signal] : [])]),
        headers: { ...(inCookie && { 'x-token-transport': 'cookie' }), ...init.headers },
      })
      const seconds = Number(reply.headers.get('retry-after') ?? NaN)
      const body = (await reply.json().catch(ignore)) as Reply['body']
      return { status: reply.status, retryAfter: seconds >= 0 ? seconds : undefined, body }
    } catch {
      return { status: 0, retryAfter: undefined, body: undefined }
    }
  }

  /** Asks what may be asked twice, until there is an answer by somebody who knows; `next` may call it off. */
  async function insist(path: string, next: () => Init | undefined): Promise<Reply | undefined> {
    const since = performance.now()
    for (let attempt = 1; ; attempt++) {
      const init = next()
      if (!init) return undefined
      const reply = await ask(path, init, attemptMs)
      if (reply.status === 204 || (reply.status === 200 && reply.body?.access_token)) return reply
      // A portal or a proxy may refuse too, and knows nothing of the session.
      if ([400, 401, 403].includes(reply.status) && reply.body?.code) return reply
      const ms = Math.max((reply.retryAfter ?? 0) * 1000, between(200, 400) * 2 ** attempt)
      if (attempt === 3 || performance.now() - since + ms > patienceMs) throw errorOf(reply)
      await pause(ms)
    }
  }

  /** All who need a renewal wait for the same one. */
  function renew(): Promise<void> {
    renewing ??= attemptRenewal().finally(() => (renewing = undefined))
    return renewing
  }

  async function attemptRenewal(): Promise<void> {
    const since = performance.now()
    const former = held?.accessToken
    let sent: Held | undefined
    for (let inVain = 0; inVain < 3;) {
      const reply = await insist('/refresh', () => {
        look()
        sent = held
        const isDone = held ? held.accessToken !== former && lasts(0) : !mayHaveCookie
        if (isDone) return undefined
        return { ...json(inCookie ? {} : { refresh_token: held?.refreshToken }), signal: flight.signal }
      })
      if (!reply || (reply.status === 200 && commit(heldOf(reply)))) return
      look()
      if (held?.session === sent?.session && held?.generation === sent?.generation) {
        if (reply.status !== 200 && reply.body?.code !== 'refresh_token_superseded') return end()
        inVain++
      }
      if (performance.now() - since > patienceMs) throw errorOf(reply)
      await pause(between(100, 300))
    }
    end()
  }

  /** Returns whether the answer is of use: not if it is that of a session which is no longer the one that is stored. */
  function commit(next: Held): boolean {
    look()
    if (!held && !mayHaveCookie) return true
    if (held && held.session !== next.session) return false
    if (!held || held.generation <= next.generation) begin(next)
    else if (!lasts(0)) hold({ ...held, accessToken: next.accessToken, until: next.until })
    return true
  }

  async function getAccessToken({ minValidity = 30 } = {}): Promise<string | undefined> {
    look()
    if (lasts(minValidity)) return held?.accessToken
    if (held || mayHaveCookie)
      await renew().catch((error: unknown) => {
        if (!lasts(0)) throw error
      })
    return held?.accessToken
  }

  /** As `fetch`, with the access token, and once more with the next one if that had expired. */
  async function fetchWithToken(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
    // A second request can be made of anything but a stream, and a request with a body has one.
    const isOnce =
      init?.body instanceof ReadableStream || (input instanceof Request && !/^(GET|HEAD)$/.test(input.method))
    const token = await getAccessToken()
    const session = held?.session
    const attempt = (token: string | undefined) => {
      const request = new Request(input, init)
      if (token) request.headers.set('authorization', `Bearer ${token}`)
      return send(request)
    }
    const reply = await attempt(token)
    if (!token || reply.status !== 401) return reply
    const body = (await reply.clone().json().catch(ignore)) as Reply['body']
    if (!/^(token_|session_|user_)/.test(body?.code ?? '')) return reply
    if (held?.accessToken === token) await renew().catch(ignore)
    // What was asked in the name of one session is not repeated in the name of another.
    const isNew = held?.session === session && held?.accessToken !== token
    return isNew && !isOnce ? attempt(held?.accessToken) : reply
  }

  async function call(path: string, init: Init, via = send): Promise<Reply> {
    const reply = await ask(path, init, callMs, via)
    if (reply.status < 200 || reply.status > 299) throw errorOf(reply)
    return reply
  }

  function tellOthers(): void {
    try {
      if (!storage || storage === page?.localStorage) channel = new BroadcastChannel(key)
      channel?.addEventListener('message', hear)
    } catch {
      // They find out for themselves.
    }
  }

  if (page) {
    const options = { signal: disposal.signal }
    const dormant = () => channel?.close()
    page.addEventListener('storage', (event) => [key, null].includes(event.key) && look(), options)
    page.addEventListener('online', wake, options)
    page.document.addEventListener('visibilitychange', wake, options)
    // A page with an open channel would not be kept for the way back.
    page.addEventListener('pagehide', dormant, options)
    page.addEventListener('pageshow', (event) => (event.persisted && tellOthers(), wake()), options)
    disposal.signal.addEventListener('abort', dormant)
    tellOthers()
    look()
  }

  return {
    getAccessToken,

    /** As the global one; to the origins of `apis` it takes the access token along. */
    fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
      requireWindow()
      const target = new URL(input instanceof Request ? input.url : input, page?.document.baseURI)
      const origins = apis ?? [new URL(base, page?.document.baseURI).origin]
      return origins.includes(target.origin) ? fetchWithToken(input, init) : send(input, init)
    },

    /** Logs in; a session that was there before is ended. `username` may be the address. */
    async signIn(credentials: { username: string; password: string }): Promise<{ status: 'signed_in' }> {
      await renewing?.catch(ignore)
      const body = new URLSearchParams({ username: credentials.username, password: credentials.password })
      const next = heldOf(await call('/token', { method: 'POST', body }))
      look()
      const former = held
      begin(next)
      ended = former?.session
      // It has its own token, and no cookie: that is the new one already.
      if (former?.accessToken) void ask('/logout', { ...signOutOf(former, 'local'), credentials: 'omit' }).catch(ignore)
      return { status: 'signed_in' }
    },

    /** Registers, and does not log in. */
    async signUp(registration: Schemas['Registration']): Promise<User> {
      return (await call('/users', json(registration))).body as unknown as User
    },

    /**
     * Ends every session of the user, this one, or all others. Here it has an effect at once; rejects when the service
     * could not be told, and tells it when it can.
     */
    async signOut({ scope = 'global' }: { scope?: 'global' | 'local' | 'others' } = {}): Promise<void> {
      look()
      if (!held) return
      if (scope === 'others') return void (await call('/logout', json({ scope }), fetchWithToken))
      const init = signOutOf(held, scope)
      end()
      const attempt = async () => {
        try {
          // A cookie that is there by then would be that of another session.
          await insist('/logout', () => (inCookie && read() ? undefined : init))
        } catch (error) {
          unsentSignOut = attempt
          throw error
        }
      }
      return attempt()
    },

    async user(): Promise<User> {
      return (await call('/me', {}, fetchWithToken)).body as unknown as User
    },

    sessions: {
      async list(): Promise<Session[]> {
        return (await call('/me/sessions', {}, fetchWithToken)).body as unknown as Session[]
      },
      async end(id: string): Promise<void> {
        await call(`/me/sessions/${id}`, { method: 'DELETE' }, fetchWithToken)
      },
    },

    /** Has a link sent, if there is such an account; the answer does not tell. */
    async forgotPassword(email: string): Promise<void> {
      await call('/forgot-password', json({ email }))
    },

    async resetPassword(reset: { token: string; newPassword: string }): Promise<void> {
      await call('/reset-password', json({ token: reset.token, new_password: reset.newPassword }))
    },

    /** All other sessions of the user end. */
    async changePassword(change: { currentPassword: string; newPassword: string }): Promise<void> {
      const body = { current_password: change.currentPassword, new_password: change.newPassword }
      await call('/me/password', json(body), fetchWithToken)
    },

    /** Calls `listener` now, and when somebody signs in or out, in whatever tab; returns what ends that. */
    onChange(listener: (state: State) => void): () => void {
      listeners.add(listener)
      tell(listener)
      return () => void listeners.delete(listener)
    },

    getSnapshot: (): State => snapshot,

    /** Lets go of the page; the session stays. */
    dispose(): void {
      disposal.abort()
      clearTimeout(timer)
      listeners.clear()
    },
  }
}

function json(body: object) {
  return { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
}

function signOutOf({ accessToken, refreshToken }: Held, scope: string): Init {
  const { headers, ...init } = json({ scope, refresh_token: refreshToken })
  return {
    ...init,
    keepalive: true,
    headers: { ...headers, ...(accessToken && { authorization: `Bearer ${accessToken}` }) },
  }
}

/** What a token reply says, however the refresh token travels: it begins with its session and its generation. */
function heldOf({ body }: Reply): Held {
  const { access_token: accessToken, refresh_token: refreshToken, expires_in: seconds = 0 } = body ?? {}
  const [session, generation] = refreshToken?.split('.') ?? [body?.session_id, body?.generation]
  return {
    session: String(session),
    generation: Number(generation),
    until: Date.now() + seconds * 1000,
    accessToken,
    refreshToken,
  }
}

function errorOf(reply: Reply): LatchkeyError {
  const { code = 'unreachable', detail = 'The service cannot be reached.' } = reply.body ?? {}
  return new LatchkeyError(code, detail, reply)
}

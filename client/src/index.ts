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
const signedOut: State = { status: 'signed_out' }
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
  /** The last renewal was refused until then. */
  let notBefore = 0
  let refusal: LatchkeyError | undefined
  /** Ends a renewal of a session that is no longer the one here: its cookie must not replace the new one. */
  let flight = new AbortController()
  let unsentSignOut: (() => Promise<void>) | undefined
  let signingOut: Promise<void> | undefined
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
    const text = remember(next)
    useStorage((storage) => {
      if (text === null) return storage.removeItem(key)
      try {
        storage.setItem(key, text)
      } catch {
        // It is full, but for the room that the former record had.
        storage.removeItem(key)
        storage.setItem(key, text)
      }
    })
  }

  function remember(next: Held | undefined): string | null {
    return (memory = next ? JSON.stringify(inCookie ? { ...next, accessToken: undefined } : next) : null)
  }

  const isVisible = () => page?.document.visibilityState === 'visible'

  function lasts(seconds: number): boolean {
    return held?.accessToken !== undefined && held.until - Date.now() > seconds * 1000
  }

  function hold(next: Held | undefined): void {
    if (next === held) return
    held = next
    remember(next)
    setTimer()
    if (next?.session === snapshot.session) return
    flight.abort()
    flight = new AbortController()
    snapshot = next ? { status: 'signed_in', session: next.session } : signedOut
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
    write(next)
    hold(next)
    channel?.postMessage(next)
  }

  function end(): void {
    ended = held?.session ?? ended
    write(undefined)
    channel?.postMessage({ session: ended })
    hold(undefined)
  }

  /** Takes over what another tab has stored, or stores again what an older answer has overwritten. */
  function look(): void {
    const stored = read()
    if (!stored) return hold(undefined)
    if (stored.session === ended) {
      const mine = held?.session === ended ? undefined : held
      write(mine)
      return hold(mine)
    }
    if (stored.session !== held?.session) return hold(stored)
    if (stored.generation < held.generation) return write(held)
    if (stored.generation > held.generation) hold(inCookie ? { ...held, generation: stored.generation } : stored)
  }

  /** A message is a hint: what it brings is taken only if it is newer, and what is stored says whose session it is. */
  function hear({ data }: MessageEvent<Held | { session: string; generation?: undefined }>): void {
    if (data.generation === undefined) ended = data.session ?? ended
    look()
    if (data.generation === undefined || data.session === ended) return
    if (held?.session === data.session ? held.generation > data.generation : held && isStored) return
    write(data)
    hold(data)
  }

  function setTimer(): void {
    clearTimeout(timer)
    if (!held || !isVisible() || disposal.signal.aborted) return
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
    if (held && !lasts(60) && isVisible()) void renew().catch(ignore)
  }

  function requireWindow(): void {
    if (!page) throw new LatchkeyError('no_window', 'There is no window.')
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
      const body = (await reply.json().catch(ignore)) as Reply['body']
      return { status: reply.status, retryAfter: Number(reply.headers.get('retry-after')) || undefined, body }
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
    if (performance.now() < notBefore) return Promise.reject(refusal)
    renewing ??= attemptRenewal()
      .catch((error: LatchkeyError) => {
        refusal = error
        notBefore = performance.now() + (error.retryAfter ?? 0) * 1000
        throw error
      })
      .finally(() => (renewing = undefined))
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
        const isDone = !held || (held.accessToken !== former && lasts(0))
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
    if (!held) return true
    if (held.session !== next.session) return false
    if (held.generation <= next.generation) begin(next)
    else if (!lasts(0)) hold({ ...held, accessToken: next.accessToken, until: next.until })
    return true
  }

  async function getAccessToken({ minValidity = 30 } = {}): Promise<string | undefined> {
    look()
    if (lasts(minValidity)) return held?.accessToken
    if (held)
      await renew().catch((error: unknown) => {
        if (!lasts(0)) throw error
      })
    return held?.accessToken
  }

  /** As `fetch`, with the access token, and once more with the next one if that had expired. */
  async function fetchWithToken(request: Request, isStream?: boolean): Promise<Response> {
    const again = isStream ? undefined : request.clone()
    const attempt = (request: Request, token: string | undefined) => {
      if (token) request.headers.set('authorization', `Bearer ${token}`)
      return send(request)
    }
    // What was asked in the name of one session is sent in the name of no other.
    const { session } = snapshot
    const token = await getAccessToken()
    if (session && held && held.session !== session) throw new LatchkeyError('session_revoked', 'Another session.')
    const reply = await attempt(request, token)
    if (!token || reply.status !== 401) return reply
    const body = (await reply.clone().json().catch(ignore)) as Reply['body']
    if (!/^(token|session|user)_/.test(String(body?.code))) return reply
    if (held?.accessToken === token) await renew().catch(ignore)
    const isNew = held?.session === session && held?.accessToken !== token
    return isNew && again ? attempt(again, held?.accessToken) : reply
  }

  const withToken: typeof send = (input, init) => fetchWithToken(new Request(input, init))

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
    const dormant = () => {
      channel?.close()
      channel = undefined
    }
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
      const originOf = (url: string | URL) => new URL(url, page?.document.baseURI).origin
      const request = new Request(input, init)
      return (apis ?? [originOf(base)]).includes(originOf(request.url))
        ? fetchWithToken(request, (init?.body ?? (input as Request).body) instanceof ReadableStream)
        : send(request)
    },

    /** Logs in; a session that was there before is ended. `username` may be the address. */
    async signIn(credentials: { username: string; password: string }): Promise<{ status: 'signed_in' }> {
      await Promise.allSettled([renewing, signingOut])
      const body = new URLSearchParams({ username: credentials.username, password: credentials.password })
      const next = heldOf(await call('/token', { method: 'POST', body }))
      look()
      const former = held
      ended = former?.session ?? ended
      begin(next)
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
      if (scope === 'others') return void (await call('/logout', json({ scope }), withToken))
      const init = signOutOf(held, scope)
      end()
      const attempt = async () => {
        try {
          // A cookie that is there by then is that of another session.
          await insist('/logout', () => (read() ? { ...init, credentials: 'omit' } : init))
        } catch (error) {
          unsentSignOut = attempt
          throw error
        }
      }
      return (signingOut = attempt())
    },

    async user(): Promise<User> {
      return (await call('/me', {}, withToken)).body as unknown as User
    },

    sessions: {
      async list(): Promise<Session[]> {
        return (await call('/me/sessions', {}, withToken)).body as unknown as Session[]
      },
      async end(id: string): Promise<void> {
        await call(`/me/sessions/${id}`, { method: 'DELETE' }, withToken)
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
      await call('/me/password', json(body), withToken)
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
  const { code = 'unreachable', detail = 'The service does not answer.' } = reply.body ?? {}
  return new LatchkeyError(code, detail, reply)
}

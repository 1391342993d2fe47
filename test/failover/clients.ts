import { setTimeout } from 'node:timers/promises'
import { type Exchange, hung, type Issued, patienceMs } from './history.ts'
import { base } from './service.ts'

interface Tokens extends Issued {
  readonly access: string
}

interface Answer {
  readonly status: number
  readonly body: Readonly<Record<string, unknown>>
  readonly retryAfterMs: number
}

type Asked = Pick<Exchange, 'verb'> & Partial<Exchange>

const api = `${base}/api/v1`
/** After no answer, or one of the load balancer. */
const pauseMs = 500

/** Sends a request; a lost answer is one of status 0. */
async function send(path: string, body?: object, access?: string, ms = patienceMs): Promise<Answer> {
  const headers: Record<string, string> = access === undefined ? {} : { authorization: `Bearer ${access}` }
  if (body) headers['content-type'] = 'application/json'
  const signal = AbortSignal.timeout(ms)
  try {
    const reply = await fetch(`${api}${path}`, {
      headers,
      signal,
      ...(body ? { method: 'POST', body: JSON.stringify(body) } : {}),
    })
    const text = await reply.text()
    const answer = reply.headers.get('content-type')?.includes('json') ? (JSON.parse(text) as Answer['body']) : {}
    return { status: reply.status, body: answer, retryAfterMs: Number(reply.headers.get('retry-after') ?? 0) * 1000 }
  } catch {
    return { status: 0, body: signal.aborted && ms === patienceMs ? { code: hung } : {}, retryAfterMs: 0 }
  }
}

/**
 * One honest person: never presents a token once a newer one has come, repeats what had no answer, heeds `Retry-After`,
 * and keeps the tokens of sessions that have ended, to see whether they stay so.
 */
export class Client {
  readonly #id: number
  readonly #email: string
  readonly #history: Exchange[]
  readonly #ended: Tokens[] = []
  #tokens: Tokens | undefined
  /** The newest password that was tried to set, and the newest that is known to count. */
  #tried = 0
  #known = 0
  /** Refreshes that came to a good end. */
  refreshes = 0

  constructor(id: number, email: string, history: Exchange[]) {
    this.#id = id
    this.#email = email
    this.#history = history
  }

  async register(): Promise<void> {
    const body = { email: this.#email, password: passwordOf(0) }
    // That it is taken says that an earlier attempt was done.
    while (![201, 409].includes((await send('/users/', body)).status)) await setTimeout(pauseMs)
    await this.#logIn()
  }

  /** Goes on until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#step()
      await setTimeout(100 + Math.random() * 300)
    }
  }

  /** Presents everything it has ever ended, and what it holds. */
  async audit(): Promise<void> {
    for (const tokens of this.#ended) {
      await this.#refreshOnce(tokens)
      await this.#me(tokens)
    }
    for (let version = Math.max(0, this.#known - 3); version < this.#known; version++) await this.#logInAs(version)
    await this.#refresh()
    await this.#me(await this.#held())
    await this.#logIn()
  }

  async #step(): Promise<void> {
    const dice = Math.random()
    if (dice < 0.5) return this.#refresh()
    if (dice < 0.6) return this.#refreshTwice()
    if (dice < 0.67) return this.#loseAnswer()
    if (dice < 0.85) return this.#me(await this.#held())
    if (dice < 0.9) return this.#presentEnded()
    if (dice < 0.96) return this.#logOut(Math.random() < 0.5 ? 'local' : 'global')
    return this.#changePassword()
  }

  async #refresh(): Promise<void> {
    const tokens = await this.#held()
    for (;;) {
      const answer = await this.#refreshOnce(tokens)
      if (this.#take(answer)) return
      await pauseAfter(answer)
    }
  }

  /** As two tabs do. */
  async #refreshTwice(): Promise<void> {
    const tokens = await this.#held()
    const answers = await Promise.all([this.#refreshOnce(tokens), this.#refreshOnce(tokens)])
    if (!answers.map((answer) => this.#take(answer)).includes(true)) await this.#refresh()
  }

  /** As a train in a tunnel does; the next refresh presents the same token. */
  async #loseAnswer(): Promise<void> {
    await this.#refreshOnce(await this.#held(), Math.ceil(20 * Math.random()))
    await this.#refresh()
  }

  #refreshOnce({ session, generation, token }: Tokens, ms?: number): Promise<Answer> {
    return this.#note({ verb: 'refresh', session, generation }, () =>
      send('/refresh', { refresh_token: token }, undefined, ms),
    )
  }

  /** Whether the refresh is over: it has a successor, or the session has ended. */
  #take({ status, body }: Answer): boolean {
    if (status === 200) {
      this.#tokens = tokensOf(body)
      this.refreshes++
    } else if (status === 401) this.#tokens = undefined
    return status === 200 || status === 401
  }

  async #me(tokens: Tokens): Promise<void> {
    const { status } = await this.#note({ verb: 'me', session: tokens.session }, () =>
      send('/me', undefined, tokens.access),
    )
    if (status === 401 && tokens === this.#tokens) this.#tokens = undefined
  }

  async #presentEnded(): Promise<void> {
    const tokens = this.#ended[Math.floor(Math.random() * this.#ended.length)]
    if (!tokens) return
    await this.#refreshOnce(tokens)
    await this.#me(tokens)
    if (this.#known > 0) await this.#logInAs(this.#known - 1)
  }

  async #logOut(scope: 'local' | 'global'): Promise<void> {
    const tokens = await this.#held()
    const { session, access } = tokens
    await this.#untilDone(() =>
      this.#note({ verb: 'logout', session, scope }, () => send('/logout', { scope }, access)),
    )
    this.#ended.push(tokens)
    this.#tokens = undefined
  }

  /** Ends the other session by it; a change whose outcome is not known shows when the new password is used. */
  async #changePassword(): Promise<void> {
    const other = await this.#held()
    const { session, access } = await this.#logIn()
    const version = ++this.#tried
    const body = { current_password: passwordOf(this.#known), new_password: passwordOf(version) }
    const { status } = await this.#untilDone(() =>
      this.#note({ verb: 'password', session, version }, () => send('/me/password', body, access)),
    )
    if (status !== 204) return void (await this.#logIn())
    this.#known = version
    this.#ended.push(other)
  }

  async #held(): Promise<Tokens> {
    return this.#tokens ?? (await this.#logIn())
  }

  /** Tries the passwords that may count, the newest first, and then, in case that a change was undone, the older ones. */
  async #logIn(): Promise<Tokens> {
    for (let version = this.#tried; version >= 0; version--) {
      const { status, body } = await this.#untilDone(() => this.#logInAs(version))
      if (status !== 200) continue
      this.#known = version
      this.#tokens = tokensOf(body)
      return this.#tokens
    }
    throw new Error(`${this.#email} cannot log in with any password it ever had`)
  }

  #logInAs(version: number): Promise<Answer> {
    const body = { username: this.#email, password: passwordOf(version) }
    return this.#note({ verb: 'login', version }, () => send('/token', body))
  }

  async #untilDone(attempt: () => Promise<Answer>): Promise<Answer> {
    for (;;) {
      const answer = await attempt()
      if (answer.status !== 0 && answer.status < 500) return answer
      await pauseAfter(answer)
    }
  }

  async #note(asked: Asked, attempt: () => Promise<Answer>): Promise<Answer> {
    const sentAt = performance.now()
    const answer = await attempt()
    const { status, body } = answer
    const issued = status === 200 && 'refresh_token' in body ? { issued: tokensOf(body) } : {}
    const code = typeof body['code'] === 'string' ? body['code'] : ''
    this.#history.push({ ...asked, ...issued, client: this.#id, sentAt, endedAt: performance.now(), status, code })
    return answer
  }
}

function passwordOf(version: number): string {
  return `correct horse battery staple ${version}`
}

function tokensOf(body: Answer['body']): Tokens {
  const [token, access] = [String(body['refresh_token']), String(body['access_token'])]
  const [session = '', generation] = token.slice('lkr_'.length).split('.')
  return { session, generation: Number(generation), token, access }
}

function pauseAfter({ retryAfterMs }: Answer): Promise<void> {
  return setTimeout(retryAfterMs || pauseMs)
}

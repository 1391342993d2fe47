import type { KeyObject } from 'node:crypto'
import {
  abandonMail,
  type ClaimedMail,
  claimMails,
  holdMail,
  markMailsSent,
  releaseMail,
  retryMail,
} from './outbox.sql.ts'
import type { OneTimePurpose } from './mails.ts'
import { Problem } from '#src/problem.ts'
import type { Core } from '#src/features/core.ts'
import { type Letter, type LetterOptions, writeLetter } from './letters.ts'
import { oneTimeTokenOf } from '#src/features/recovery/one-time-tokens.ts'

/** The way to the mail server. */
export interface MailTransport {
  /** Hands a mail over; throws `MailRefused`, or anything else when the server was not heard to the end. */
  readonly deliver: (letter: Letter) => Promise<void>
  /** Whether the server can be spoken to at all, whatever it thinks of one mail. */
  readonly answers: () => Promise<boolean>
  /** Ends also the deliveries that are under way; they fail. */
  readonly close: () => void
}

/** The mail server's own no to one mail: for now, or for good. */
export class MailRefused extends Error {
  readonly code: string
  readonly forGood: boolean
  constructor(code: string, forGood: boolean) {
    super(code)
    this.code = code
    this.forGood = forGood
  }
}

export interface MailerOptions extends LetterOptions {
  readonly db: Core['db']
  readonly counters: Pick<Core['counters'], 'mail'>
  readonly log: Pick<Core['log'], 'warn'>
  readonly oneTimeKeys: readonly KeyObject[]
  readonly post: MailTransport
}

/** Mails under way at once, and so the most that a crash between the server's yes and ours can send twice. */
const atOnce = 5
const pollMs = 1000
const pauseMs = { first: 1000, last: 30_000 }
const retrySeconds = { first: 30, last: 3600 }
/** The lease of a mail that is under way is renewed. */
const holdEveryMs = 20_000
/** How long a mail server may take when the process is to end, and then the database to be told. */
const closeMs = { server: 3000, database: 900 }
const nobody = { ip: null, userAgent: null, requestId: null }

/** Sends what the outbox holds; any number of instances may do so on one database. */
export class Mailer {
  readonly #options: MailerOptions
  readonly #underWay = new Map<number, Promise<void>>()
  /** Mails that the server has taken and of which the database does not know yet. */
  readonly #out = new Set<number>()
  readonly #cut = Promise.withResolvers<false>()
  #looking: Promise<void> | undefined
  #probe: Promise<boolean> | undefined
  #timer: NodeJS.Timeout | undefined
  #again = false
  #closed = false
  #isCut = false
  #answeredAt = -Infinity
  #pauseMs = 0
  #pausedUntil = 0

  constructor(options: MailerOptions) {
    this.#options = options
  }

  /** Looks for mail every second. */
  start(): void {
    this.#timer = setInterval(() => this.kick(), pollMs)
    this.#timer.unref()
  }

  /** Looks for mail now. */
  kick(): void {
    this.#again = true
    if (this.#closed || this.#looking) return
    this.#looking = this.#look().finally(() => {
      this.#looking = undefined
    })
  }

  /** Takes no other mail and finishes those under way; after three seconds it gives back what is not out. */
  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#timer)
    if (!(await isSettled(this.#rest(), closeMs.server))) {
      this.#isCut = true
      this.#cut.resolve(false)
    }
    this.#options.post.close()
    await isSettled(
      this.#rest().then(() => this.#noteOut()),
      closeMs.database,
    )
  }

  async #rest(): Promise<void> {
    await this.#looking
    await Promise.all(this.#underWay.values())
  }

  async #look(): Promise<void> {
    try {
      while (this.#again && !this.#closed) {
        this.#again = false
        await this.#noteOut()
        const free = atOnce - this.#underWay.size
        if (free === 0 || performance.now() < this.#pausedUntil) return
        const mails = await this.#options.db.rows(claimMails, {
          limit: free,
          except: [...this.#underWay.keys()].map(String),
        })
        for (const mail of mails) this.#begin(mail)
      }
    } catch (error) {
      // While the database is away what is out stays in mind; what was claimed is due again when its lease ends.
      if (!(error instanceof Problem)) this.#options.log.warn({ err: error }, 'the outbox cannot be read')
    }
  }

  #begin(mail: ClaimedMail): void {
    const holding = setInterval(() => {
      this.#options.db.rows(holdMail, mail).catch(() => {})
    }, holdEveryMs)
    const task = this.#handle(mail)
      // The database is away; the lease ends by itself.
      .catch(() => {})
      .finally(() => {
        clearInterval(holding)
        this.#underWay.delete(mail.id)
        this.kick()
      })
    this.#underWay.set(mail.id, task)
  }

  async #handle(mail: ClaimedMail): Promise<void> {
    if (this.#closed) return this.#release(mail)
    if (mail.tooOld) return this.#abandon(mail, 'TOO_OLD')
    const token = this.#tokenOf(mail)
    // Used, replaced by a newer one, or expired: a link that does not work helps nobody.
    if (mail.data['nonce'] !== undefined && token === undefined) return this.#abandon(mail, 'LINK_OUTDATED')

    const began = performance.now()
    try {
      await this.#options.post.deliver(writeLetter(this.#options, { ...mail, token }))
    } catch (error) {
      return this.#failed(mail, error, began)
    }
    this.#out.add(mail.id)
    this.#options.counters.mail('sent')
    this.#answered()
    await this.#noteOut()
  }

  /** A mail that is out is never sent again while this process lives: this comes before each claim. */
  async #noteOut(): Promise<void> {
    const ids = [...this.#out]
    if (ids.length === 0) return
    await this.#options.db.rows(markMailsSent, { ids: ids.map(String) })
    for (const id of ids) this.#out.delete(id)
  }

  async #failed(mail: ClaimedMail, error: unknown, began: number): Promise<void> {
    if (error instanceof MailRefused) {
      this.#answered()
      return error.forGood ? this.#abandon(mail, error.code) : this.#retry(mail, error.code)
    }
    if (!(await this.#isOwnFault(began))) return this.#release(mail)
    return this.#retry(mail, codeOf(error))
  }

  /** A server that answers others, or a greeting, is not away: then the fault is counted for the mail alone. */
  async #isOwnFault(began: number): Promise<boolean> {
    if (this.#isCut) return false
    if (this.#answeredAt > began) return true
    this.#probe ??= this.#options.post.answers().finally(() => {
      this.#probe = undefined
    })
    const answers = await Promise.race([this.#probe, this.#cut.promise])
    if (!answers) this.#pause()
    return answers
  }

  #answered(): void {
    this.#answeredAt = performance.now()
    this.#pauseMs = 0
  }

  #pause(): void {
    if (performance.now() < this.#pausedUntil) return
    if (this.#pauseMs === 0) this.#options.log.warn('mail cannot be sent at the moment; it waits')
    this.#pauseMs = Math.min(Math.max(this.#pauseMs * 2, pauseMs.first), pauseMs.last)
    this.#pausedUntil = performance.now() + this.#pauseMs
  }

  async #release(mail: ClaimedMail): Promise<void> {
    await this.#options.db.rows(releaseMail, mail)
  }

  async #retry(mail: ClaimedMail, error: string): Promise<void> {
    const seconds = Math.min(retrySeconds.first * 2 ** (mail.attempts - 1), retrySeconds.last)
    await this.#options.db.rows(retryMail, { ...mail, seconds, error })
    this.#options.counters.mail('retried')
  }

  async #abandon(mail: ClaimedMail, error: string): Promise<void> {
    await this.#options.db.rows(abandonMail, { ...nobody, ...mail, error })
    this.#options.counters.mail('abandoned')
  }

  #tokenOf({ data, digest }: ClaimedMail): string | undefined {
    const { purpose, nonce } = data
    if (purpose === undefined || nonce === undefined || !digest) return undefined
    return oneTimeTokenOf(this.#options.oneTimeKeys, purpose as OneTimePurpose, nonce, digest)
  }
}

/** A name of the fault, such as `ECONNECTION`; the words of a server may hold the address. */
function codeOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return /^[A-Z][A-Z0-9_]{1,40}$/.test(code) ? code : 'FAULT'
}

/** Whether a promise settles within `ms`. */
async function isSettled(promise: Promise<unknown>, ms: number): Promise<boolean> {
  const late = Promise.withResolvers<false>()
  const timer = setTimeout(() => late.resolve(false), ms)
  const settled = promise.then(
    () => true,
    () => true,
  )
  return Promise.race([settled, late.promise]).finally(() => clearTimeout(timer))
}

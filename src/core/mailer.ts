import {
  abandonMail,
  type ClaimedMail,
  claimMails,
  holdMail,
  markMailSent,
  releaseMail,
  retryMail,
} from '#src/db/outbox.ts'
import type { OneTimePurpose } from '#src/db/schema.ts'
import type { Core } from './core.ts'
import { type Letter, type LetterOptions, writeLetter } from './letters.ts'
import { oneTimeTokenOf } from './one-time-tokens.ts'

/** Hands a mail over; throws `MailRefused`, or anything else when the mail server cannot be spoken to. */
export type Deliver = (letter: Letter) => Promise<void>

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
  readonly oneTimeKeys: readonly Buffer[]
  readonly deliver: Deliver
}

/** Mails under way at once, and so the most that a crash between the server's yes and ours can send twice. */
const atOnce = 5
const pollMs = 1000
const pauseMs = { first: 1000, last: 30_000 }
const retrySeconds = { first: 30, last: 3600 }
/** The lease of a mail is 60 seconds; that of one under way is renewed. */
const holdEveryMs = 20_000
const nobody = { ip: null, userAgent: null, requestId: null }

/** Sends what the outbox holds; any number of instances may do so on one database. */
export class Mailer {
  readonly #options: MailerOptions
  #running: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #again = false
  #closed = false
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
    if (this.#closed || this.#running || performance.now() < this.#pausedUntil) return
    this.#running = this.#run().finally(() => {
      this.#running = undefined
    })
  }

  /** Finishes the mails under way and takes no others. */
  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#timer)
    await this.#running
  }

  async #run(): Promise<void> {
    try {
      while (this.#again && !this.#closed) {
        this.#again = false
        const mails = await this.#options.db.rows(claimMails, { limit: atOnce })
        const results = await Promise.allSettled(mails.map((mail) => this.#handle(mail)))
        if (results.some((result) => result.status === 'rejected' || result.value === 'away')) return this.#pause()
        if (mails.length > 0) this.#pauseMs = 0
        if (mails.length === atOnce) this.#again = true
      }
    } catch {
      // The database is away; what was claimed is due again when its lease ends.
      this.#pause()
    }
  }

  #pause(): void {
    if (this.#pauseMs === 0) this.#options.log.warn('mail cannot be sent at the moment; it waits')
    this.#pauseMs = Math.min(Math.max(this.#pauseMs * 2, pauseMs.first), pauseMs.last)
    this.#pausedUntil = performance.now() + this.#pauseMs
  }

  async #handle(mail: ClaimedMail): Promise<'done' | 'away'> {
    if (mail.tooOld) return this.#abandon(mail, 'TOO_OLD')
    const token = this.#tokenOf(mail)
    // Used, replaced by a newer one, or expired: a link that does not work helps nobody.
    if (mail.data['nonce'] !== undefined && token === undefined) return this.#abandon(mail, 'LINK_OUTDATED')

    const holding = setInterval(() => {
      this.#options.db.rows(holdMail, { id: mail.id }).catch(() => {})
    }, holdEveryMs)
    try {
      await this.#options.deliver(writeLetter(this.#options, { ...mail, token }))
    } catch (error) {
      return await this.#failed(mail, error)
    } finally {
      clearInterval(holding)
    }
    this.#options.counters.mail('sent')
    await this.#insist(() => this.#options.db.rows(markMailSent, { id: mail.id }))
    return 'done'
  }

  async #failed(mail: ClaimedMail, error: unknown): Promise<'done' | 'away'> {
    if (!(error instanceof MailRefused)) {
      await this.#options.db.rows(releaseMail, { id: mail.id })
      return 'away'
    }
    if (error.forGood) return this.#abandon(mail, error.code)
    const seconds = Math.min(retrySeconds.first * 2 ** (mail.attempts - 1), retrySeconds.last)
    await this.#options.db.rows(retryMail, { id: mail.id, seconds, error: error.code })
    this.#options.counters.mail('retried')
    return 'done'
  }

  async #abandon(mail: ClaimedMail, error: string): Promise<'done'> {
    await this.#options.db.rows(abandonMail, { ...nobody, id: mail.id, error })
    this.#options.counters.mail('abandoned')
    return 'done'
  }

  #tokenOf({ data, digest }: ClaimedMail): string | undefined {
    const { purpose, nonce } = data
    if (purpose === undefined || nonce === undefined || !digest) return undefined
    return oneTimeTokenOf(this.#options.oneTimeKeys, purpose as OneTimePurpose, nonce, digest)
  }

  /** The mail is out: as long as this process lives, that has to reach the database before the lease ends. */
  async #insist(write: () => Promise<unknown>): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await write()
        return
      } catch (error) {
        if (attempt === 50) throw error
        await new Promise((resolve) => {
          setTimeout(resolve, 500)
        })
      }
    }
  }
}

import prom from '@platformatic/prom-client'
import fp from 'fastify-plugin'
import type { Config } from '#src/config.ts'
import { Mailer, MailRefused, type MailTransport } from '#src/features/mail/mailer.ts'
import { deriveKey } from '#src/db/sealing.ts'
import { queuedMails } from '#src/features/mail/outbox.sql.ts'
import type { Letter } from '#src/features/mail/letters.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** `undefined` when this process sends no mail. */
    mailer: Mailer | undefined
    /** The last mails, where they are shown and not sent. */
    shownLetters: readonly Letter[] | undefined
  }
}

type MailOptions = Config['mail'] &
  Pick<Config['service'], 'production' | 'logLevel'> &
  Pick<Config['tokens'], 'secretKeyPrevious'> & { readonly secretKey: string; readonly issuer: string }

const countEveryMs = 5000
/** How many mails are shown. */
const kept = 100

/** Sends the outbox to `SMTP_URL`; in development without one, shows it in the terminal and as `app.shownLetters`. */
export default fp<MailOptions>(
  async (app, options) => {
    const { production, smtpUrl, worker, secretKey, secretKeyPrevious, serviceName, issuer } = options
    const letters: Letter[] | undefined = smtpUrl === undefined && !production ? [] : undefined
    const post = smtpUrl !== undefined ? await smtpPost(smtpUrl, options) : letters && showingPost(letters, options)
    const mailer =
      worker && post !== undefined
        ? new Mailer({
            db: app.db,
            counters: app.counters,
            log: app.log,
            oneTimeKeys: [secretKey, secretKeyPrevious].flatMap((key) =>
              key ? [deriveKey(key, 'one-time-token')] : [],
            ),
            post,
            serviceName,
            passwordResetUrl: options.passwordResetUrl ?? `${issuer}/account/reset-password#token={token}`,
            emailVerifyUrl: options.emailVerifyUrl ?? `${issuer}/account/verify-email#token={token}`,
          })
        : undefined
    app.decorate('mailer', mailer)
    app.decorate('shownLetters', letters)
    app.addHook('onReady', async () => mailer?.start())
    app.addHook('onClose', async () => mailer?.close())
    if (worker && !post) app.log.warn('SMTP_URL is not set; mail is queued and not sent')
    if (worker) countQueued()

    /** A scrape tells what was counted last: it would be slow exactly when mail is stuck. */
    function countQueued() {
      const gauge = (name: string, help: string) => new prom.Gauge({ name, help, registers: [app.metricsRegistry] })
      const waiting = gauge('auth_mail_queued', 'Mails that wait to be sent.')
      const oldest = gauge('auth_mail_oldest_seconds', 'Age of the oldest mail that waits to be sent.')
      const count = () => {
        app.db.row(queuedMails, {}).then(
          (row) => {
            waiting.set(row?.count ?? 0)
            oldest.set(row?.oldestSeconds ?? 0)
          },
          // The database is away; the last numbers stay.
          () => {},
        )
      }
      const timer = setInterval(count, countEveryMs)
      timer.unref()
      app.addHook('onReady', async () => count())
      app.addHook('onClose', async () => clearInterval(timer))
    }
  },
  { name: 'mail', dependencies: ['db', 'metrics'] },
)

/** Writes mails to the terminal and keeps the last of them. */
function showingPost(letters: Letter[], { logLevel }: Pick<MailOptions, 'logLevel'>): MailTransport {
  return {
    deliver: async (letter) => {
      letters.push(letter)
      letters.splice(0, letters.length - kept)
      if (logLevel !== 'silent')
        process.stdout.write(`\nMail to ${letter.to.address}: ${letter.subject}\n\n${letter.text}\n`)
    },
    answers: async () => true,
    close: () => {},
  }
}

const oneAddress = /^[^\s<>@,;:"()[\]\\]+@[^\s<>@,;:"()[\]\\]+$/

/** A pool of connections to one mail server; a mail has exactly one recipient. */
async function smtpPost(
  url: string,
  { from: sender, serviceName }: Pick<MailOptions, 'from' | 'serviceName'>,
): Promise<MailTransport> {
  // Loaded only here: a start without it is quicker.
  const { createTransport } = await import('nodemailer')
  const transport = createTransport({
    url,
    pool: true,
    maxConnections: 5,
    // One more try on another connection where the server had closed an idle one and has seen nothing of the mail.
    maxRequeues: 1,
    connectionTimeout: 5000,
    greetingTimeout: 5000,
    dnsTimeout: 5000,
    // RFC 5321 §4.5.3.2.6 would wait ten minutes for the end of DATA.
    socketTimeout: 60_000,
    disableFileAccess: true,
    disableUrlAccess: true,
  })
  const domain = sender.split('@')[1] ?? 'localhost'
  return {
    deliver: async ({ messageId: id, to, subject, text, html }) => {
      const headers = { 'Auto-Submitted': 'auto-generated' }
      const messageId = `<${id}@${domain}>`
      // The parser of addresses sees none that it could read as two; the edge refuses them before.
      if (!oneAddress.test(to.address)) throw new MailRefused('ADDRESS', true)
      const from = { name: serviceName, address: sender }
      try {
        await transport.sendMail({
          from,
          to,
          envelope: { from: sender, to: [to.address] },
          subject,
          text,
          html,
          headers,
          messageId,
        })
      } catch (error) {
        throw asRefusal(error)
      }
    },
    answers: () =>
      transport.verify().then(
        () => true,
        () => false,
      ),
    close: () => transport.close({ force: true }),
  }
}

/** RFC 5321 §4.2.1: 4yz for now, 5yz for good. What is not about this one mail stays what it is. */
function asRefusal(error: unknown): unknown {
  const {
    responseCode = 0,
    code = '',
    command = '',
  } = error as { responseCode?: number; code?: string; command?: string }
  // RFC 5321 §3.8: the server closes the connection; whether because of this mail, nobody knows yet.
  if (responseCode === 421) return Object.assign(new Error('421'), { code: 'SMTP_421' })
  if (code !== 'EENVELOPE' && code !== 'EMESSAGE') return error
  // The words of the server may hold the address.
  if (responseCode === 0) return new MailRefused(code, true)
  return new MailRefused(`SMTP_${responseCode}`, responseCode >= 500 && command !== 'MAIL FROM')
}

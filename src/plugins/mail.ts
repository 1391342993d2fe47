import prom from '@platformatic/prom-client'
import fp from 'fastify-plugin'
import { createTransport } from 'nodemailer'
import type { Config } from '#src/config.ts'
import { type Deliver, Mailer, MailRefused } from '#src/core/mailer.ts'
import { deriveKey } from '#src/core/tokens.ts'
import { queuedMails } from '#src/db/outbox.ts'
import { openDevMailbox } from './dev-mailbox.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** `undefined` when this process sends no mail. */
    mailer: Mailer | undefined
  }
}

type MailOptions = Pick<
  Config,
  | 'production'
  | 'mailWorker'
  | 'logLevel'
  | 'secretKeyPrevious'
  | 'serviceName'
  | 'smtpUrl'
  | 'mailFrom'
  | 'passwordResetUrl'
  | 'emailVerifyUrl'
> & { readonly secretKey: string; readonly issuer: string }

interface Post {
  readonly deliver: Deliver
  readonly close: () => void
}

/** Sends the outbox to `SMTP_URL`; in development without one, to the terminal and `GET /dev/mails`. */
export default fp<MailOptions>(
  async (app, options) => {
    const { production, smtpUrl, mailWorker, secretKey, secretKeyPrevious, serviceName, issuer } = options
    countQueued()
    const post = smtpUrl !== undefined ? smtpPost(smtpUrl, options) : production ? undefined : developmentPost()
    const sends = mailWorker && post !== undefined
    const mailer = sends
      ? new Mailer({
          db: app.db,
          counters: app.counters,
          log: app.log,
          oneTimeKeys: [secretKey, secretKeyPrevious].flatMap((key) => (key ? [deriveKey(key, 'one-time-token')] : [])),
          deliver: post.deliver,
          serviceName,
          passwordResetUrl: options.passwordResetUrl ?? `${issuer}/account/reset-password#token={token}`,
          emailVerifyUrl: options.emailVerifyUrl ?? `${issuer}/account/verify-email#token={token}`,
        })
      : undefined
    app.decorate('mailer', mailer)
    app.addHook('onReady', async () => mailer?.start())
    app.addHook('onClose', async () => {
      await mailer?.close()
      post?.close()
    })
    if (mailWorker && !post) app.log.warn('SMTP_URL is not set; mail is queued and not sent')

    function countQueued() {
      const gauge: InstanceType<typeof prom.Gauge> = new prom.Gauge({
        name: 'auth_mail_queued',
        help: 'Mails that wait to be sent.',
        registers: [app.metricsRegistry],
        async collect() {
          const row = await app.db.row(queuedMails, {}).catch(() => undefined)
          if (row) gauge.set(row.count)
        },
      })
    }

    function developmentPost(): Post {
      const mailbox = openDevMailbox(app)
      return {
        deliver: async (letter) => {
          mailbox.put(letter)
          if (options.logLevel !== 'silent')
            process.stdout.write(`\nMail to ${letter.to.address}: ${letter.subject}\n\n${letter.text}\n`)
        },
        close: () => {},
      }
    }
  },
  { name: 'mail', dependencies: ['db', 'metrics'] },
)

const oneAddress = /^[^\s<>@,;:"()[\]\\]+@[^\s<>@,;:"()[\]\\]+$/

/** A pool of connections to one mail server; a mail has exactly one recipient and is never tried again in here. */
function smtpPost(url: string, { mailFrom, serviceName }: Pick<MailOptions, 'mailFrom' | 'serviceName'>): Post {
  const transport = createTransport({
    url,
    pool: true,
    maxConnections: 5,
    maxRequeues: 0,
    connectionTimeout: 5000,
    greetingTimeout: 5000,
    dnsTimeout: 5000,
    // RFC 5321 §4.5.3.2.6 would wait ten minutes for the end of DATA.
    socketTimeout: 60_000,
    disableFileAccess: true,
    disableUrlAccess: true,
  })
  const domain = mailFrom.split('@')[1] ?? 'localhost'
  return {
    deliver: async ({ messageId: id, to, subject, text, html }) => {
      const headers = { 'Auto-Submitted': 'auto-generated' }
      const messageId = `<${id}@${domain}>`
      // The parser of addresses sees none that it could read as two; the edge refuses them before.
      if (!oneAddress.test(to.address)) throw new MailRefused('ADDRESS', true)
      const from = { name: serviceName, address: mailFrom }
      try {
        await transport.sendMail({
          from,
          to,
          envelope: { from: mailFrom, to: [to.address] },
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
    close: () => transport.close(),
  }
}

/** RFC 5321 §4.2.1: 4yz for now, 5yz for good. What is not about this one mail stays what it is. */
function asRefusal(error: unknown): unknown {
  const {
    responseCode = 0,
    code = '',
    command = '',
  } = error as { responseCode?: number; code?: string; command?: string }
  if ((code !== 'EENVELOPE' && code !== 'EMESSAGE') || responseCode === 421) return error
  // The words of the server may hold the address.
  if (responseCode === 0) return new MailRefused(code, true)
  return new MailRefused(`SMTP_${responseCode}`, responseCode >= 500 && command !== 'MAIL FROM')
}

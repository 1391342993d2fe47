import { once } from 'node:events'
import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import PostalMime, { type Email } from 'postal-mime'
import { SMTPServer, type SMTPServerOptions } from 'smtp-server'
import { cleanUp } from './clean-up.ts'
import { get } from './actors.ts'

/** A mail as `GET /dev/mails` shows it. */
export interface Mail {
  readonly to: { readonly name: string; readonly address: string }
  readonly subject: string
  readonly text: string
  readonly html: string
}

/** The mails that a service in development has sent to an address. */
export async function mailsTo(app: FastifyInstance, address: string): Promise<Mail[]> {
  return (await get(app, '/dev/mails')).json<Mail[]>().filter(({ to }) => to.address === address)
}

/** Waits for the mail of that number (from 0) to an address. */
export function mailTo(app: FastifyInstance, address: string, number = 0): Promise<Mail> {
  return eventually(async () => (await mailsTo(app, address))[number])
}

/** The one link of a mail. */
export function linkIn({ text }: { text?: string | undefined }): string {
  return /https?:\S+/.exec(text ?? '')?.[0] ?? ''
}

/** Asks again and again until there is an answer. */
export async function eventually<T>(ask: () => Promise<T | undefined> | T | undefined, ms = 20_000): Promise<T> {
  const deadline = performance.now() + ms
  for (;;) {
    const answer = await ask()
    if (answer !== undefined && answer !== false) return answer
    if (performance.now() > deadline) throw new Error('that has not happened in time')
    await setTimeout(20)
  }
}

interface Delivery {
  readonly from: string
  readonly to: string[]
  readonly raw: string
  readonly mail: Email
}

export interface MailServer {
  readonly url: string
  readonly deliveries: Delivery[]
  readonly stop: () => Promise<void>
}

/** A real SMTP server; the same port again when it is given. */
export async function startMailServer(options: SMTPServerOptions = {}, port = 0): Promise<MailServer> {
  const deliveries: Delivery[] = []
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ['STARTTLS'],
    closeTimeout: 100,
    onData(stream, { envelope }, callback) {
      const chunks: Buffer[] = []
      stream.on('data', (chunk: Buffer) => chunks.push(chunk))
      stream.on('end', () => {
        const raw = Buffer.concat(chunks).toString()
        void PostalMime.parse(raw).then((mail) => {
          const from = envelope.mailFrom === false ? '' : envelope.mailFrom.address
          deliveries.push({ from, to: envelope.rcptTo.map(({ address }) => address), raw, mail })
          callback()
        })
      })
    },
    ...options,
  })
  server.on('error', () => {})
  server.listen(port, '127.0.0.1')
  await once(server.server, 'listening')
  const stop = () => new Promise<void>((resolve) => server.close(() => resolve()))
  cleanUp(stop)
  const address = server.server.address() as { port: number }
  return { url: `smtp://127.0.0.1:${address.port}`, deliveries, stop }
}

import { createHash } from 'node:crypto'
import type { FastifyInstance, FastifyRequest, preHandlerAsyncHookHandler } from 'fastify'
import { addressOf, networkOf } from '#src/address.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by `limitForgotten`: the address has been sent enough links, and who asks is not to know. */
    isOverMailQuota: boolean
  }
}

type App = Pick<FastifyInstance, 'limit' | 'counter' | 'perMinute'>
const minute = 60
/** Whom the limits below count: the address that a request comes from. */
const by = (request: FastifyRequest) => networkOf(addressOf(request))

/** Logins, right and wrong; the use case counts the wrong ones of an account. */
export const limitLogins = ({ limit, perMinute }: App) =>
  limit({ name: 'login', by, max: perMinute.logins, per: minute })

/** Refreshes; the use case counts those of a session. */
export const limitRefreshes = ({ limit, perMinute }: App) =>
  limit({ name: 'refresh', by, max: perMinute.refreshes, per: minute })

/** Registrations. */
export const limitRegistrations = ({ limit }: App) => limit({ name: 'registration', by, max: 60, per: 10 * minute })

/** Confirmations by password; the use case counts the wrong ones of an account. */
export const limitConfirmations = ({ limit }: App) => limit({ name: 'password-address', by, max: 50, per: minute })

/** Tries to use a link from a mail. */
export const limitLinks = ({ limit }: App) => limit({ name: 'reset', by, max: 30, per: 10 * minute })

/** Requests for a link; the mails to one address are fewer, and who asks is not to know. */
export function limitForgotten({ limit, counter }: App): preHandlerAsyncHookHandler[] {
  const mailbox = counter({ name: 'forgot-mailbox', max: 5, per: 60 * minute })
  return [
    limit({ name: 'forgot', by, max: 20, per: 10 * minute }),
    async (request) => {
      request.isOverMailQuota = (await mailbox.count(mailboxKey(request))).exceeded
    },
  ]
}

/** A digest, because addresses of people belong in no store. */
function mailboxKey({ body }: FastifyRequest): string {
  const { email } = body as { email: string }
  return createHash('sha256').update(email.toLowerCase()).digest('base64url')
}

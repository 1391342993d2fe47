import type { FastifyInstance, FastifyRequest } from 'fastify'
import { addressOf, networkOf } from '#src/address.ts'

type App = Pick<FastifyInstance, 'limit' | 'perMinute'>
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

/** Requests for a link; how many mails go to one address is counted where they are written. */
export const limitForgotten = ({ limit }: App) => limit({ name: 'forgot', by, max: 20, per: 10 * minute })

import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { readAddress, withinNetworks } from '#src/address.ts'
import type { Config } from '#src/config.ts'
import { clientOf } from '#src/routes/oauth/clients.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The client of OAUTH_CLIENTS that the request authenticates as; by fields of the body from `preValidation` on. */
    client: string | null
  }
}

/**
 * Who sends a request: a backend that authenticates as a client of ours may name, in `X-User-Address`, the address of the
 * user it acts for. Says once that such a header came from somebody who may not send it.
 */
export default fp<Pick<Config['network'], 'trustedProxies'> & Pick<Config['routes'], 'oauthClients'>>(
  async (app, { oauthClients, trustedProxies }) => {
    const isTrusted = withinNetworks(trustedProxies)
    let isWarned = false
    app.decorateRequest('client', null)
    app.decorateRequest('userAddress', null)

    const recognise = (request: FastifyRequest) => {
      if (oauthClients.size === 0) return
      request.client = clientOf(request, oauthClients) ?? null
      if (request.client !== null) request.userAddress = userAddressOf(request)
    }
    app.addHook('onRequest', (request, _reply, done) => {
      recognise(request)
      done()
    })
    app.addHook('preValidation', (request, _reply, done) => {
      if (request.client === null) recognise(request)
      if (!isWarned) warnOfIgnored(request)
      done()
    })

    function warnOfIgnored(request: FastifyRequest): void {
      const header = ignoredHeaderOf(request)
      if (header === undefined) return
      isWarned = true
      app.log.warn(
        { header },
        'a forwarded address is ignored; who may send one is in TRUSTED_PROXIES or OAUTH_CLIENTS',
      )
    }

    function ignoredHeaderOf({ headers, socket, userAddress }: FastifyRequest): string | undefined {
      if (userAddress === null && headers['x-user-address'] !== undefined) return 'x-user-address'
      const forwarded = ['x-forwarded-for', 'forwarded'].find((name) => headers[name] !== undefined)
      return forwarded === undefined || isTrusted(socket.remoteAddress) ? undefined : forwarded
    }
  },
  { name: 'address' },
)

function userAddressOf({ headers }: FastifyRequest): string | null {
  const text = headers['x-user-address']
  return (typeof text === 'string' && readAddress(text)) || null
}

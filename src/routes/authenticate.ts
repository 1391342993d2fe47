import type { FastifyInstance, FastifyRequest, RouteOptions } from 'fastify'
import { refusedRole } from '#src/features/audit/audit.ts'
import { type Authentication, requireStanding } from '#src/features/sessions/authenticate.ts'
import type { AccessClaims } from '#src/features/tokens/tokens.ts'
import { Problem } from '#src/problem.ts'
import { originOf } from '#src/routes/origin.ts'

declare module 'fastify' {
  interface FastifyRequest {
    auth: Authentication | null
  }
  interface FastifyContextConfig {
    /** Says that a route needs no access token. */
    access?: 'public'
    /** Sends errors as `application/json`, as RFC 6749 §5.2 wants. */
    oauthErrors?: boolean
  }
}

/** Route hook: accepts an access token whose session and user stand now; otherwise a 401 (RFC 6750 §3). */
export async function authenticate(this: FastifyInstance, request: FastifyRequest): Promise<void> {
  request.auth = await requireStanding(this.core, await countedClaims(this, request))
}

/** The claims of the access token; the request counts for its session, or for its address when the token is refused. */
async function countedClaims(app: FastifyInstance, request: FastifyRequest): Promise<AccessClaims> {
  const claims = await claimsOf(app, request).catch(async (error: unknown) => {
    await app.countRequest(request)
    throw error
  })
  await app.countRequest(request, claims.sessionId)
  return claims
}

async function claimsOf({ core }: FastifyInstance, request: FastifyRequest): Promise<AccessClaims> {
  const token = bearerTokenOf(request)
  if (token === undefined) throw new Problem('token_missing')
  return core.accessTokens.verify(token)
}

/** Route hook, after `authenticate`: refuses a user who does not have the role now (RFC 6750 §3.1). */
export function requireRole(role: string) {
  return async function requireRoleOfUser(this: FastifyInstance, request: FastifyRequest): Promise<void> {
    const { id, roles } = authOf(request).account
    if (roles.includes(role)) return
    const action = `${request.method} ${request.routeOptions.url ?? ''}`
    throw await refusedRole(this.core, id, action, originOf(request))
  }
}

/** The access token of a request; throws `malformed_authorization` when the header is there and cannot be read. */
export function bearerTokenOf({ headers }: FastifyRequest): string | undefined {
  const { authorization = '' } = headers
  if (!/^bearer(\s|$)/i.test(authorization)) return undefined
  const token = /^bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(authorization)?.[1]
  if (token === undefined) throw new Problem('malformed_authorization')
  return token
}

/** The authentication of a route behind `authenticate`. */
export function authOf({ auth }: FastifyRequest): Authentication {
  if (auth === null) throw new Error('the route is not behind `authenticate`')
  return auth
}

/** Fails the start for a route, also of a package, that neither is marked public nor authenticates. */
export function requireAccessMark(app: FastifyInstance): void {
  const routes: RouteOptions[] = []
  app.addHook('onRoute', (route) => {
    routes.push(route)
  })
  // Not sooner: who registers a package marks its routes by a hook that runs after the one above.
  app.addHook('onReady', async () => {
    for (const { url, method, config, onRequest } of routes)
      if (config?.access !== 'public' && ![onRequest].flat().includes(authenticate))
        throw new Error(`${String(method)} ${url} is neither public nor behind \`authenticate\``)
  })
}

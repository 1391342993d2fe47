import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { bodyOf, escapePointer, type FieldError, Problem, type ProblemCode } from '#src/problem.ts'
import { securityHeaders } from './headers.ts'

/** Answers every error, 404 and 405 with the one body (RFC 9457, RFC 6749 §5.2, FastAPI's `detail`). */
export default fp(
  async (app) => {
    const routes = new Map<string, { pattern: URLPattern; methods: Set<string> }>()
    app.addHook('onRoute', ({ url, method }) => {
      const pathname = url.length > 1 ? url.replace(/\/$/, '') : url
      const known = routes.get(pathname) ?? { pattern: new URLPattern({ pathname }), methods: new Set() }
      for (const name of [method].flat()) known.methods.add(name)
      routes.set(pathname, known)
    })

    app.setErrorHandler<FastifyError>((error, request, reply) => sendProblem(problemOf(error), request, reply))
    app.setNotFoundHandler((request, reply) => {
      // A path such as `//` is no URL, and still only unknown.
      const pathname = URL.parse(`http://localhost${request.url}`)?.pathname.replace(/(?<=.)\/$/, '') ?? ''
      const allowed = [...routes.values()].flatMap(({ pattern, methods }) =>
        pattern.test({ pathname }) ? [...methods] : [],
      )
      const problem =
        allowed.length > 0 && !allowed.includes(request.method)
          ? new Problem('method_not_allowed', { headers: { allow: [...new Set(allowed)].toSorted().join(', ') } })
          : new Problem('not_found')
      return sendProblem(problem, request, reply)
    })
  },
  { name: 'errors' },
)

/** Answers a path that cannot be read, which the router refuses before there is a route or a hook. */
export function refusePath(error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  sendProblem(problemOf(error), request, reply.headers(securityHeaders).header('x-request-id', request.id))
}

/** Sends a problem; its cause goes to the log only. */
function sendProblem(problem: Problem, request: FastifyRequest, reply: FastifyReply) {
  if (problem.status >= 500)
    request.log[problem.status === 500 ? 'error' : 'warn']({ err: problem.cause }, problem.code)
  else if (problem.cause !== undefined) request.log.info({ err: problem.cause }, problem.code)
  if (problem.status === 401 || problem.code === 'insufficient_scope' || problem.code === 'malformed_authorization')
    reply.header('www-authenticate', challengeOf(problem))
  return reply
    .code(problem.status)
    .headers({ ...problem.headers, 'cache-control': 'no-store' })
    .type(request.routeOptions.config.oauthErrors ? 'application/json' : 'application/problem+json')
    .serializer(JSON.stringify)
    .send(bodyOf(problem))
}

/** RFC 6750 §3: a parameter at least, no error code when no token was sent; the words of the catalogue hold no quotes. */
function challengeOf({ code, error, detail }: Problem): string {
  const challenge = 'Bearer realm="latchkey"'
  const described = `${challenge}, error="${error}", error_description="${detail}"`
  if (code === 'insufficient_scope') return `${described}, scope="admin"`
  return error === 'invalid_token' || code === 'malformed_authorization' ? described : challenge
}

const frameworkCodes: Record<string, ProblemCode> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'body_too_large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'media_type_unsupported',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'invalid_request',
  FST_ERR_CTP_INVALID_JSON_BODY: 'invalid_request',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'invalid_request',
  FST_ERR_BAD_URL: 'invalid_request',
  FST_ERR_MAX_PARAM_LENGTH: 'not_found',
  FST_STATIC_FORBIDDEN_PATH: 'not_found',
  FST_ERR_HANDLER_TIMEOUT: 'unavailable',
}

/** Any error as a problem; what nobody foresaw is an `internal_error` that says nothing about the inside. */
function problemOf(error: FastifyError): Problem {
  if (error instanceof Problem) return error
  if (error.validation) {
    const errors = (error.validation as unknown as Issue[]).flatMap((issue) =>
      fieldErrors(issue, error.validationContext ?? 'body'),
    )
    const detail = errors.map(({ pointer, detail: text }) => `${pointer.slice(1) || 'body'}: ${text}`).join('; ')
    return new Problem('invalid_request', { errors, detail })
  }
  const code = frameworkCodes[error.code] ?? ((error.statusCode ?? 500) < 500 ? 'invalid_request' : 'internal_error')
  return new Problem(code, {
    cause: code === 'internal_error' ? error : error.code,
    ...(code === 'unavailable' ? { headers: { 'retry-after': '2' } } : {}),
  })
}

interface Issue {
  readonly keyword: string
  readonly instancePath: string
  readonly message?: string
  readonly params?: Record<string, unknown>
}

/** One entry per field that a validation issue speaks of. */
function fieldErrors({ keyword, instancePath, message = 'is not valid', params }: Issue, part: string): FieldError[] {
  const named = (names: unknown, detail: string) =>
    (names as string[]).map((name) => ({ pointer: `${instancePath}/${escapePointer(name)}`, detail }))
  if (keyword === 'boolean') return []
  if (keyword === 'required') return named(params?.['requiredProperties'], 'is required')
  if (keyword === 'additionalProperties') return named(params?.['additionalProperties'], 'is unknown')
  if (keyword === 'pattern') return [{ pointer: instancePath, detail: 'has the wrong form' }]
  return [{ pointer: instancePath === '' && part !== 'body' ? `/${part}` : instancePath, detail: message }]
}

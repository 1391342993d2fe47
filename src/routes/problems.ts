import { type TProperties, type TSchema, Type } from 'typebox'
import { bodyOf, catalogue, Problem, type ProblemCode } from '#src/problem.ts'
import { named, ref } from '#src/routes/schemas.ts'

const FieldProblem = Type.Object({
  pointer: Type.String({ description: 'JSON Pointer (RFC 6901) to the field.', examples: ['/email'] }),
  detail: Type.String({ examples: ['is required'] }),
})

/** The body of every error, as docs/errors.md describes it. */
export const ProblemDetails = named(
  'Problem',
  {
    type: Type.String({ examples: ['about:blank'] }),
    title: Type.String({ examples: ['Bad Request'] }),
    status: Type.Integer({ examples: [400] }),
    detail: Type.String({ examples: ['email: is required'] }),
    error: Type.Optional(Type.String({ description: 'OAuth error code.', examples: ['invalid_request'] })),
    error_description: Type.Optional(Type.String({ examples: ['email: is required'] })),
    code: Type.Unsafe<ProblemCode>({
      type: 'string',
      enum: Object.keys(catalogue),
      description: 'Stable name of the problem.',
      examples: ['invalid_request'],
    }),
    errors: Type.Optional(Type.Array(FieldProblem, { examples: [[{ pointer: '/email', detail: 'is required' }]] })),
  },
  { $id: 'Problem', description: "Problem details (RFC 9457) with OAuth's and FastAPI's fields." },
)

/** What a status means, and the problem that is its example. */
const meanings = {
  400: ['The request is not valid.', 'invalid_request'],
  401: ['The credentials or the token are not valid.', 'token_invalid'],
  403: ['Not allowed.', 'insufficient_scope'],
  404: ['There is no such thing.', 'not_found'],
  409: ['Already taken.', 'email_taken'],
  413: ['The body is too large.', 'body_too_large'],
  415: ['The body is neither JSON nor a form in UTF-8.', 'media_type_unsupported'],
  429: ['Too many requests; `Retry-After` says when to come back.', 'too_many_requests'],
  503: ['A dependency is away; `Retry-After` says when to come back.', 'unavailable'],
} as const satisfies Record<number, readonly [description: string, code: ProblemCode]>

type ErrorStatus = keyof typeof meanings
type StatusOf<R> = R extends ProblemCode ? (typeof catalogue)[R][0] : R

const retryAfter = { 'Retry-After': Type.Integer({ description: 'Seconds.', examples: [2] }) }
const limited = {
  ...retryAfter,
  RateLimit: Type.String({ description: 'The limit that was passed.', examples: ['"login";r=0;t=30'] }),
  'RateLimit-Policy': Type.String({ description: 'What it allows.', examples: ['"login";q=50;w=60'] }),
}
const challenge = {
  'WWW-Authenticate': Type.String({ description: 'RFC 6750 §3.', examples: ['Bearer realm="latchkey"'] }),
}
const errorHeaders: Partial<Record<ErrorStatus, TProperties>> = { 401: challenge, 429: limited, 503: retryAfter }

/** The error replies of a route by status or code, for its response schema; 429 and 503 can always happen. */
export function problems<const R extends ErrorStatus | ProblemCode>(
  reasons: readonly R[],
  mediaType: 'application/problem+json' | 'application/json' = 'application/problem+json',
): Record<StatusOf<R> | 429 | 503, TSchema> {
  const codes = [...reasons, 429, 503].map((reason) => meanings[reason as ErrorStatus]?.[1] ?? reason) as ProblemCode[]
  const entries = Object.entries(Object.groupBy(codes, (code) => catalogue[code][0])).map(([text, group]) => {
    const status = Number(text) as ErrorStatus
    const examples = Object.fromEntries(group.map((code) => [code, { value: bodyOf(new Problem(code)) }]))
    const content = { [mediaType]: { schema: ref(ProblemDetails), examples } }
    return [status, { description: meanings[status][0], headers: errorHeaders[status], content }]
  })
  return Object.fromEntries(entries) as Record<StatusOf<R> | 429 | 503, TSchema>
}

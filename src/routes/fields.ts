import type { FastifyRequest } from 'fastify'
import { type Static, type TObject, type TObjectOptions, type TProperties, type TSchema, Type } from 'typebox'
import { addressOf } from '#src/address.ts'
import type { Sender } from '#src/features/sessions/rotation.ts'
import type { Account } from '#src/features/accounts/accounts.sql.ts'
import { bodyOf, catalogue, Problem, type ProblemCode } from '#src/problem.ts'

const atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
const label = '[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?'

/** A dot-atom of ASCII letters at a domain name (RFC 5321 §4.1.2 without its exotic forms). */
export const Email = Type.String({
  pattern: `^(?=.{1,64}@)${atom}(?:\\.${atom})*@(?:${label}\\.)+${label}$`,
  maxLength: 254,
  description: 'E-mail address; compared without regard to case.',
  examples: ['ada@example.com'],
})
/** No `@`, so that a username can never be read as somebody's address. */
export const Username = Type.String({
  pattern: '^[A-Za-z0-9._-]+$',
  minLength: 1,
  maxLength: 64,
  description: 'Letters, digits, dot, underscore and hyphen; compared without regard to case.',
  examples: ['ada'],
})
export const FullName = Type.String({
  pattern: '^[^\\u0000-\\u001f\\u007f\\u2028\\u2029]+$',
  minLength: 1,
  maxLength: 200,
  description: 'In one line.',
  examples: ['Ada Lovelace'],
})
export const Role = Type.String({ pattern: '^[a-z][a-z0-9_-]{0,31}$', examples: ['admin'] })
export const NewPassword = Type.String({
  format: 'password',
  maxLength: 1024,
  description: '8 to 128 characters; neither a common password nor your own name or address.',
  examples: ['correct horse battery staple'],
})
/** Longer than any password that can be set, because one that was brought along may be. */
export const Password = Type.String({
  format: 'password',
  maxLength: 1024,
  description: 'Compared exactly.',
  examples: ['correct horse battery staple'],
})
export const LoginName = Type.String({
  minLength: 1,
  maxLength: 254,
  description: 'E-mail address or username, without regard to case.',
  examples: ['ada@example.com'],
})
export const RefreshTokenText = Type.String({
  maxLength: 512,
  description: 'Opaque and single-use.',
  examples: ['lkr_AZo7kq0fdRqJp0mYc3vC5g.0.mJ3c9Xy0o6dS1wq8RkT2uV5zB7nF4hL0pQeG9aKiMsE'],
})
export const OneTimeToken = Type.String({
  maxLength: 512,
  description: 'From the link in the mail; works once.',
  examples: ['lko_mJ3c9Xy0o6dS1wq8RkT2uV5zB7nF4hL0pQeG9aKiMsE'],
})
export const Nullable = <S extends TSchema & { type: string }>(schema: S) =>
  Type.Unsafe<Static<S> | null>({ ...schema, type: [schema.type, 'null'] })

/** An object that is a component of the OpenAPI document; its example is made of those of its fields. */
export function named<P extends TProperties>(title: string, fields: P, options: TObjectOptions = {}): TObject<P> {
  const example = Object.entries(fields).map(([name, field]) => [
    name,
    (Reflect.get(field, 'examples') as unknown[])[0],
  ])
  return Type.Object(fields, { title, examples: [Object.fromEntries(example)], ...options })
}

export const Moment = Type.String({ format: 'date-time', examples: ['2026-11-21T09:00:00.000Z'] })

export const Roles = Type.Array(Type.String(), { examples: [['user']] })
export const SessionIdText = Type.String({ format: 'uuid', examples: ['019a3b92-ad1f-751a-89a7-4998737bc2e6'] })

export const User = named(
  'User',
  {
    id: Type.Integer({ examples: [1] }),
    email: Nullable(Type.String({ examples: ['ada@example.com'] })),
    username: Nullable(Type.String({ examples: ['ada'] })),
    full_name: Nullable(Type.String({ examples: ['Ada Lovelace'] })),
    is_active: Type.Boolean({ examples: [true] }),
    roles: Roles,
    email_verified: Type.Boolean({ examples: [false] }),
    created_at: Moment,
  },
  { $id: 'User', description: 'A user.' },
)
export const Tokens = named(
  'Tokens',
  {
    access_token: Type.String({ description: 'JWT (RFC 9068).', examples: ['eyJhbGciOiJIUzI1NiJ9.e30.c2ln'] }),
    refresh_token: Type.Optional(
      Type.String({ ...RefreshTokenText, description: 'Opaque and single-use; left out when it is in the cookie.' }),
    ),
    session_id: Type.Optional(
      Type.String({ ...SessionIdText, description: 'Of the refresh token that is in the cookie.' }),
    ),
    generation: Type.Optional(
      Type.Integer({
        description: 'Of the refresh token that is in the cookie; a later one is higher.',
        examples: [0],
      }),
    ),
    token_type: Type.String({ const: 'bearer', examples: ['bearer'] }),
    expires_in: Type.Integer({ description: 'Lifetime of the access token in seconds.', examples: [1800] }),
  },
  { $id: 'Tokens', description: 'A token reply (RFC 6749 §5.1).' },
)
export const Session = named(
  'Session',
  {
    id: SessionIdText,
    created_at: Moment,
    last_used_at: Moment,
    expires_at: Moment,
    ip: Nullable(Type.String({ examples: ['192.0.2.1'] })),
    user_agent: Nullable(Type.String({ examples: ['Mozilla/5.0'] })),
    current: Type.Boolean({ description: 'The session of this access token.', examples: [true] }),
  },
  { $id: 'Session', description: 'A login that still stands.' },
)
const FieldProblem = Type.Object({
  pointer: Type.String({ description: 'JSON Pointer (RFC 6901) to the field.', examples: ['/email'] }),
  detail: Type.String({ examples: ['is required'] }),
})
const ProblemDetails = named(
  'Problem',
  {
    type: Type.String({ examples: ['about:blank'] }),
    title: Type.String({ examples: ['Bad Request'] }),
    status: Type.Integer({ examples: [400] }),
    detail: Type.String({ examples: ['email: is required'] }),
    error: Type.Optional(Type.String({ description: 'OAuth error code.', examples: ['invalid_request'] })),
    error_description: Type.Optional(Type.String({ examples: ['email: is required'] })),
    code: Type.String({ description: 'Stable name of the problem.', examples: ['invalid_request'] }),
    errors: Type.Optional(Type.Array(FieldProblem, { examples: [[{ pointer: '/email', detail: 'is required' }]] })),
  },
  { $id: 'Problem', description: "Problem details (RFC 9457) with OAuth's and FastAPI's fields." },
)
export const Status = named(
  'Status',
  { status: Type.String({ const: 'ok', examples: ['ok'] }) },
  { description: 'All is well.' },
)
export const components = [User, Tokens, Session, ProblemDetails]

/** A reference to one of `components`, with its type. */
export const ref = <S extends TSchema>(schema: S) =>
  Type.Unsafe<Static<S>>({ $ref: `${String(Reflect.get(schema, '$id'))}#` })

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

export const NoContent = Type.Null({ description: 'Done.' })

/** A user as clients see it. */
export function userBody(account: Account): Static<typeof User> {
  return {
    id: account.id,
    email: account.email,
    username: account.username,
    full_name: account.fullName,
    is_active: account.isActive,
    roles: account.roles,
    email_verified: account.emailVerifiedAt !== null,
    created_at: account.createdAt.toISOString(),
  }
}

/** A name that logs the user in and that nobody else can have: the username, or the e-mail address without one. */
export function loginNameOf({ id, username, email }: Account): string {
  return username ?? email ?? String(id)
}

/** Where a request comes from, for the audit trail, and whether its client still waits. */
export function originOf(request: FastifyRequest): Sender {
  const { socket } = request.raw
  return {
    ip: addressOf(request),
    userAgent: request.headers['user-agent']?.slice(0, 400) ?? null,
    requestId: request.id,
    isWaiting: () => !socket.destroyed && !socket.readableEnded && !socket.writableEnded,
  }
}

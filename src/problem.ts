import { STATUS_CODES } from 'node:http'

/** The error catalogue: code → [HTTP status, OAuth error (RFC 6749 §5.2, RFC 6750 §3.1) or null, public detail]. */
export const catalogue = {
  invalid_request: [400, 'invalid_request', 'The request is not valid.'],
  malformed_authorization: [400, 'invalid_request', 'The Authorization header is malformed.'],
  csrf_rejected: [403, 'invalid_request', 'A refresh token in a cookie is taken from this site only.'],
  password_unsuitable: [400, 'invalid_request', 'The password cannot be used.'],
  credentials_invalid: [401, 'invalid_grant', 'Incorrect username or password.'],
  password_incorrect: [401, 'invalid_grant', 'The current password is incorrect.'],
  already_registered: [400, 'invalid_request', 'The username or e-mail address is already registered.'],
  one_time_token_invalid: [400, 'invalid_request', 'The link is not valid, was used already, or has expired.'],
  grant_type_unsupported: [400, 'unsupported_grant_type', 'This grant type is not supported.'],
  client_invalid: [401, 'invalid_client', 'The client is not known or its credentials are wrong.'],
  email_not_verified: [403, 'access_denied', 'The e-mail address has not been confirmed; a link is on its way.'],
  last_admin: [409, null, 'The last active administrator cannot be removed, demoted or disabled.'],
  token_missing: [401, null, 'Not authenticated.'],
  token_invalid: [401, 'invalid_token', 'The access token is not valid.'],
  token_expired: [401, 'invalid_token', 'The access token has expired.'],
  session_revoked: [401, 'invalid_token', 'The session has ended.'],
  session_expired: [401, 'invalid_token', 'The session has expired.'],
  user_disabled: [401, 'invalid_token', 'The account is disabled.'],
  refresh_token_missing: [401, 'invalid_grant', 'No refresh token was sent.'],
  refresh_token_invalid: [401, 'invalid_grant', 'The refresh token is not valid.'],
  refresh_token_expired: [401, 'invalid_grant', 'The refresh token has expired.'],
  refresh_token_revoked: [401, 'invalid_grant', 'The session of this refresh token has ended.'],
  refresh_token_user_disabled: [401, 'invalid_grant', 'The account is disabled.'],
  refresh_token_superseded: [401, 'invalid_grant', 'A newer refresh token of this session is in use.'],
  refresh_token_reused: [401, 'invalid_grant', 'The refresh token was used before; its session has been ended.'],
  insufficient_scope: [403, 'insufficient_scope', 'This needs a role that you do not have.'],
  not_found: [404, null, 'Not found.'],
  method_not_allowed: [405, null, 'The method is not allowed here.'],
  email_taken: [409, null, 'This e-mail address is already registered.'],
  username_taken: [409, null, 'This username is already registered.'],
  body_too_large: [413, 'invalid_request', 'The body is larger than 64 KiB.'],
  media_type_unsupported: [415, 'invalid_request', 'The body must be JSON or a form, in UTF-8, not compressed.'],
  too_many_requests: [429, null, 'Too many requests; try again later.'],
  headers_too_large: [431, 'invalid_request', 'The header is too large.'],
  internal_error: [500, 'server_error', 'Something went wrong on our side.'],
  unavailable: [503, 'temporarily_unavailable', 'The service is busy or a part of it is away; try again shortly.'],
  outcome_unknown: [
    503,
    'temporarily_unavailable',
    'The answer was lost: this may have been done; look before you repeat.',
  ],
} as const satisfies Record<string, readonly [status: number, error: string | null, detail: string]>

export type ProblemCode = keyof typeof catalogue

export interface FieldError {
  /** JSON Pointer (RFC 6901) to the field, such as `/email`. */
  readonly pointer: string
  readonly detail: string
}

export interface ProblemOptions {
  /** Replace what the catalogue says, where the RFC of a contract wants it otherwise. */
  readonly status?: number
  readonly error?: string
  readonly detail?: string
  readonly errors?: readonly FieldError[]
  readonly headers?: Readonly<Record<string, string>>
  /** The private reason: logged, never sent. */
  readonly cause?: unknown
}

/** A refusal with a code of the catalogue; the only error whose words reach a client. */
export class Problem extends Error {
  readonly code: ProblemCode
  readonly status: number
  readonly error: string | null
  readonly detail: string
  readonly errors: readonly FieldError[] | undefined
  readonly headers: Readonly<Record<string, string>>

  constructor(code: ProblemCode, options: ProblemOptions = {}) {
    super(code, options.cause === undefined ? {} : { cause: options.cause })
    const [status, error, detail] = catalogue[code]
    this.name = 'Problem'
    this.code = code
    this.status = options.status ?? status
    this.error = options.error ?? error
    this.detail = options.detail ?? detail
    this.errors = options.errors
    this.headers = options.headers ?? {}
  }
}

/** A name as a part of a JSON Pointer (RFC 6901 §3). */
export function escapePointer(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1')
}

/** A 400 that names one field, or with the pointer `''` the whole body. */
export function invalidField(pointer: string, detail: string, code: ProblemCode = 'invalid_request'): Problem {
  return new Problem(code, {
    detail: `${pointer.slice(1).replaceAll('/', '.') || 'body'}: ${detail}`,
    errors: [{ pointer, detail }],
  })
}

/** The body of a problem, as docs/errors.md describes it. */
export function bodyOf({ code, status, error, detail, errors }: Problem) {
  return {
    type: 'about:blank',
    title: STATUS_CODES[status] ?? 'Error',
    status,
    detail,
    ...(error === null ? {} : { error, error_description: detail }),
    code,
    ...(errors === undefined ? {} : { errors }),
  }
}

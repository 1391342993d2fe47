import { type Static, type TObject, type TObjectOptions, type TProperties, type TSchema, Type } from 'typebox'
import { RefreshTokenText } from '#src/routes/credentials.ts'

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
export const Status = named(
  'Status',
  { status: Type.String({ const: 'ok', examples: ['ok'] }) },
  { description: 'All is well.' },
)

/** A reference to a schema with an `$id`, with its type. */
export const ref = <S extends TSchema>(schema: S) =>
  Type.Unsafe<Static<S>>({ $ref: `${String(Reflect.get(schema, '$id'))}#` })

export const NoContent = Type.Null({ description: 'Done.' })

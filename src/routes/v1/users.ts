import { type Static, Type } from 'typebox'
import { Email, FullName, Role, Username } from '#src/features/accounts/names.ts'
import { Problem } from '#src/problem.ts'
import { named, Nullable, ref, User } from '#src/routes/schemas.ts'
import { Cursor, largestId, NextCursor } from './cursor.ts'

export const UserQuery = Type.Object({
  q: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 254,
      description: 'Part of the e-mail address, username or full name.',
      examples: ['ada'],
    }),
  ),
  role: Type.Optional(Role),
  is_active: Type.Optional(Type.String({ enum: ['true', 'false'], examples: ['true'] })),
  limit: Type.Optional(
    Type.String({
      pattern: '^(?:[1-9]\\d?|1\\d\\d|200)$',
      description: '1 to 200; 50 when left out.',
      examples: ['50'],
    }),
  ),
  cursor: Type.Optional(Cursor),
})
export const UserId = Type.Object({ id: Type.String({ pattern: '^[1-9]\\d{0,9}$', examples: ['1'] }) })
export const UserChange = named(
  'UserChange',
  {
    full_name: Type.Optional(Nullable(FullName)),
    username: Type.Optional(Username),
    email: Type.Optional(Email),
    roles: Type.Optional(Type.Array(Role, { maxItems: 16, uniqueItems: true, examples: [['user', 'admin']] })),
    is_active: Type.Optional(Type.Boolean({ examples: [true] })),
  },
  { additionalProperties: false, minProperties: 1 },
)
const userExample = Reflect.get(User, 'examples') as unknown[]
export const UserPage = named('UserPage', {
  items: Type.Array(ref(User), { examples: [userExample] }),
  next_cursor: NextCursor,
})

/** An id beyond the column's range is nobody's. */
export function userIdOf({ id }: Static<typeof UserId>): number {
  if (Number(id) > largestId) throw new Problem('not_found')
  return Number(id)
}

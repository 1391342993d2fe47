import { Type } from 'typebox'
import { invalidField } from '#src/problem.ts'
import { Nullable } from '#src/routes/schemas.ts'

export const Cursor = Type.String({
  maxLength: 64,
  description: '`next_cursor` of the page before.',
  examples: ['dTo1MA'],
})
export const NextCursor = Nullable(Type.String({ description: 'Null on the last page.', examples: ['dTo1MA'] }))

/** The largest `integer` of Postgres. */
export const largestId = 2 ** 31 - 1

/** Where the page after an id begins: in the list of users (`u`) or of events (`e`), whose cursors are not mixed up. */
export function cursorOf(list: 'u' | 'e', id: number | string): string {
  return Buffer.from(`${list}:${id}`).toString('base64url')
}

/** The id that a cursor of the list stands for; throws `invalid_request`. */
export function idOf(list: 'u' | 'e', cursor: string): number {
  const id = Number(/^[ue]:(\d{1,15})$/.exec(Buffer.from(cursor, 'base64url').toString('latin1'))?.[1])
  const isOurs = Number.isSafeInteger(id) && cursor === cursorOf(list, id) && (list === 'e' || id <= largestId)
  if (!isOurs) throw invalidField('/cursor', 'is not a cursor of this list')
  return id
}

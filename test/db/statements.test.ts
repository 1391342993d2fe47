import { describe, expect, test } from 'vitest'
import * as administration from '#src/features/accounts/administration.sql.ts'
import type { Statement } from '#src/db/database.ts'
import * as refreshTokens from '#src/features/sessions/rotation.sql.ts'
import * as sessions from '#src/features/sessions/sessions.sql.ts'
import { signedUp } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const textOf = (statement: unknown) => (statement as Statement<never, never>).text

describe('the SQL of', () => {
  test.each(Object.entries({ ...administration, ...refreshTokens, ...sessions }))(
    '%s is as reviewed',
    (_name, statement) => {
      expect(textOf(statement)).toMatchSnapshot()
    },
  )
})

describe('the happy path', () => {
  test('of a refresh is one statement, of an authenticated request one query', async () => {
    const { app } = await startService()
    const { refresh, me } = await signedUp(app)
    const statements = await watched(app.core.db, async () => {
      await refresh()
      await me()
    })
    expect(statements).toEqual([textOf(refreshTokens.rotateRefreshToken), textOf(sessions.sessionStates)])
  })
})

/** The statements that really went out while `act` ran. */
async function watched(db: object, act: () => Promise<void>): Promise<string[]> {
  const sent: string[] = []
  const original = Reflect.get(db, 'rows') as (statement: { text: string }, ...rest: unknown[]) => unknown
  Reflect.set(db, 'rows', (statement: { text: string }, ...rest: unknown[]) => {
    sent.push(statement.text)
    return original.call(db, statement, ...rest)
  })
  await act()
  Reflect.deleteProperty(db, 'rows')
  return sent
}

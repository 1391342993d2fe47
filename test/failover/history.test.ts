import { describe, expect, test } from 'vitest'
import { endingsIn, type Exchange, hung, longestOutage, type Violations, violationsOf } from './history.ts'

const issued = (session: string, generation: number, token = `${session}.${generation}`) => ({
  session,
  generation,
  token,
})

/** Requests of one client, each a second after the last and answered at once unless it says otherwise. */
function history(...exchanges: Array<Pick<Exchange, 'verb'> & Partial<Exchange>>): Exchange[] {
  return exchanges.map((one, i) => ({
    client: 0,
    sentAt: i * 1000,
    endedAt: (one.sentAt ?? i * 1000) + 10,
    status: 200,
    code: '',
    ...one,
  }))
}

function found(...exchanges: Parameters<typeof history>): Partial<Record<keyof Violations, number>> {
  const all = Object.entries(violationsOf(history(...exchanges))) as [keyof Violations, Exchange[]][]
  return Object.fromEntries(all.flatMap(([name, list]) => (list.length > 0 ? [[name, list.length]] : [])))
}

const login = (session: string, version = 0) => ({ verb: 'login', version, issued: issued(session, 0) }) as const
const refresh = (session: string, generation: number, token?: string) =>
  ({ verb: 'refresh', session, generation, issued: issued(session, generation + 1, token) }) as const
const refused = (verb: 'refresh' | 'me', session: string, code: string) =>
  ({ verb, session, status: 401, code }) as const
const logout = (session: string, scope: 'local' | 'global', status = 204) =>
  ({ verb: 'logout', session, scope, status }) as const
const change = (session: string, version: number, status = 204) =>
  ({ verb: 'password', session, version, status }) as const

describe('a history in which', () => {
  test('tokens are lost on the way, repeated, and sent twice at once is faultless', () => {
    expect(
      found(
        login('a'),
        { verb: 'refresh', session: 'a', generation: 0, status: 0 },
        refresh('a', 0),
        refresh('a', 0),
        { ...refresh('a', 1), status: 503, issued: undefined as never },
        refresh('a', 1),
        { verb: 'me', session: 'a', status: 502 },
      ),
    ).toEqual({})
  })

  test('a token that was handed out is unknown, or reused, is not', () => {
    expect(found(login('a'), refused('refresh', 'a', 'refresh_token_invalid'))).toEqual({ unknown: 1 })
    expect(found(login('a'), refused('refresh', 'a', 'refresh_token_reused'))).toEqual({ reused: 1 })
    // Not even where the client has ended the session: then it has been revoked.
    expect(found(login('a'), logout('a', 'local'), refused('refresh', 'a', 'refresh_token_invalid'))).toEqual({
      unknown: 1,
    })
  })

  test('a generation has two successors, or one that is not the next, is not', () => {
    expect(found(login('a'), refresh('a', 0), refresh('a', 0, 'another'))).toEqual({ forked: 1 })
    expect(found(login('a'), { ...refresh('a', 0), issued: issued('a', 2) })).toEqual({ forked: 1 })
    expect(found(login('a'), { ...refresh('a', 0), issued: issued('b', 1) })).toEqual({ forked: 1 })
  })

  test('a session is refused is faultless only if its own client may have ended it', () => {
    const revoked = refused('me', 'a', 'session_revoked')
    expect(found(login('a'), revoked)).toEqual({ refused: 1 })
    expect(found(login('a'), logout('a', 'local', 0), revoked)).toEqual({})
    expect(found(login('a'), login('b'), logout('b', 'local'), revoked)).toEqual({ refused: 1 })
    expect(found(login('a'), login('b'), logout('b', 'global', 503), revoked)).toEqual({})
    expect(found(login('a'), login('b'), change('b', 1), revoked)).toEqual({})
    // The session that changes the password goes on.
    expect(found(login('a'), change('a', 1), revoked)).toEqual({ refused: 1 })
    // It was opened after, and a request of before is over by now.
    expect(found(logout('b', 'global'), login('a'), revoked)).toEqual({ refused: 1 })
    expect(found(logout('b', 'global', 0), login('a'), revoked)).toEqual({})
    expect(found({ ...logout('b', 'global', 0), sentAt: -60_000 }, login('a'), revoked)).toEqual({ refused: 1 })
    // Another client’s logout says nothing.
    expect(found(login('a'), { ...logout('a', 'local'), client: 1 }, revoked)).toEqual({ refused: 1 })
  })

  test('a session lives on after a logout or a change of password was acknowledged is not', () => {
    const alive = { verb: 'me', session: 'a' } as const
    expect(found(login('a'), logout('a', 'local'), alive)).toEqual({ undone: 1 })
    expect(found(login('a'), logout('a', 'local'), refresh('a', 0))).toEqual({ undone: 1 })
    expect(found(login('a'), login('b'), logout('b', 'global'), alive)).toEqual({ undone: 1 })
    expect(found(login('a'), login('b'), change('b', 1), alive)).toEqual({ undone: 1 })
    expect(found(login('a'), change('a', 1), alive)).toEqual({})
    expect(found(login('a'), logout('a', 'local', 503), alive)).toEqual({})
    // Answered after the logout, but sent before.
    expect(found(login('a'), logout('a', 'local'), { ...alive, sentAt: 500, endedAt: 3000 })).toEqual({})
  })

  test('passwords count in the order of their changes', () => {
    const wrong = (version: number) => ({ verb: 'login', version, status: 401, code: 'credentials_invalid' }) as const
    expect(found(login('a'), wrong(0))).toEqual({ refused: 1 })
    expect(found(login('a'), change('a', 1), wrong(0), login('b', 1))).toEqual({})
    expect(found(login('a'), change('a', 1), login('b', 0))).toEqual({ undone: 1 })
    expect(found(login('a'), change('a', 1), wrong(1))).toEqual({ refused: 1 })
    expect(found(login('a'), change('a', 1, 503), wrong(1), login('b', 0))).toEqual({})
    expect(found(login('a'), change('a', 1, 503), wrong(0), login('b', 1))).toEqual({})
    // It was used, so it counted.
    expect(found(login('a'), change('a', 1, 503), login('b', 1), login('c', 0))).toEqual({ undone: 1 })
    const again = { ...change('a', 1, 401), code: 'password_incorrect' }
    expect(found(login('a'), change('a', 1, 503), again)).toEqual({})
    expect(found(login('a'), again)).toEqual({ refused: 1 })
  })

  test('a request has no answer for as long as its client waits is not', () => {
    const unanswered = { verb: 'me', session: 'a', status: 0 } as const
    expect(found({ ...unanswered, code: hung }, unanswered)).toEqual({ failed: 1 })
  })

  test('an answer is a 500, or one that nobody expects, is not', () => {
    expect(found({ verb: 'me', session: 'a', status: 500 }, { verb: 'me', session: 'a', status: 400 })).toEqual({
      failed: 2,
    })
  })
})

describe('what had ended', () => {
  test('is counted when it was tried afterwards', () => {
    const revoked = refused('me', 'a', 'session_revoked')
    const wrong = { verb: 'login', version: 0, status: 401, code: 'credentials_invalid' } as const
    const all = history(login('a'), logout('a', 'local'), revoked, login('b'), change('b', 1), wrong)
    expect(endingsIn(all)).toEqual({ logouts: 1, passwords: 1, tried: 2 })
    expect(endingsIn(history(login('a'), revoked, logout('a', 'local', 503)))).toEqual({
      logouts: 0,
      passwords: 0,
      tried: 0,
    })
  })
})

describe('the longest outage', () => {
  test('is the longest time without a refresh that came to a good end, also at either end', () => {
    const at = (endedAt: number, status = 200) => ({ ...refresh('a', 0), status, sentAt: endedAt, endedAt })
    const all = history(at(100), at(1000), at(3000), at(2000, 503), { verb: 'me', session: 'a', endedAt: 2000 })
    expect(longestOutage(all, 0, 3500)).toBe(2000)
    expect(longestOutage(all, 0, 9000)).toBe(6000)
    expect(longestOutage(all, 3100, 4000)).toBe(900)
  })
})

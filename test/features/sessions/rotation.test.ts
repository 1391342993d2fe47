import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { describe, expect, test } from 'vitest'
import { get, metric, post, refreshWith, signedUp, type TokenReply } from '#test/support/actors.ts'
import { startService } from '#test/support/service.ts'

const { app, sql } = await startService()

const outcome = (name: string) => metric(app, `auth_refresh_total{outcome="${name}"}`)
const tokensOf = (reply: { json: () => unknown }) => reply.json() as TokenReply
const codeOf = (reply: { json: () => unknown }) => (reply.json() as { code: string }).code
const sessionIdOf = (refreshToken: string) => {
  const hex = Buffer.from(refreshToken.slice(4, 26), 'base64url').toString('hex')
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}
/** Moves the issue of a generation into the past, as if that much time had gone by since. */
const age = (refreshToken: string, generation: number, seconds: number) => sql`
  update refresh_tokens set issued_at = issued_at - make_interval(secs => ${seconds})
  where session_id = ${sessionIdOf(refreshToken)} and generation = ${generation}`

describe('1. 50 concurrent first uses', () => {
  test('all answer 200 with one and the same successor, and one of them rotates', async () => {
    const { tokens } = await signedUp(app)
    const before = { rotated: await outcome('rotated'), replayed: await outcome('replayed') }
    const replies = await Promise.all(Array.from({ length: 50 }, () => refreshWith(app, tokens.refresh_token)))

    expect(replies.map(({ statusCode }) => statusCode)).toEqual(Array(50).fill(200))
    expect(new Set(replies.map((reply) => tokensOf(reply).refresh_token)).size).toBe(1)
    const rows =
      await sql`select generation from refresh_tokens where session_id = ${sessionIdOf(tokens.refresh_token)}`
    expect(rows.map(({ generation }) => generation as number).toSorted((a, b) => a - b)).toEqual([0, 1])
    expect(await outcome('rotated')).toBe(before.rotated + 1)
    expect(await outcome('replayed')).toBe(before.replayed + 49)
  })
})

describe('2. a lost response', () => {
  test('is answered with the same successor on the retry, which itself can be refreshed', async () => {
    const { tokens, refresh } = await signedUp(app)
    const lost = tokensOf(await refresh())
    const retried = tokensOf(await refresh())
    expect(retried.refresh_token).toBe(lost.refresh_token)
    expect(retried.refresh_token).not.toBe(tokens.refresh_token)
    expect((await refresh(retried.refresh_token)).statusCode).toBe(200)
  })

  test('whose connection was cut after the commit is no loss', async () => {
    const listening = await startService()
    const { port } = new URL(await listening.app.listen({ port: 0 }))
    const { tokens, refresh } = await signedUp(listening.app)
    const body = JSON.stringify({ refresh_token: tokens.refresh_token })
    const socket = connect(Number(port), '127.0.0.1')
    socket.write(
      `POST /api/v1/refresh HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    )
    const generation = async () => (await listening.sql`select generation from sessions`)[0]?.['generation'] as number
    while ((await generation()) === 0);
    socket.destroy()
    const retried = await refresh()
    expect(retried.statusCode).toBe(200)
    expect((await refresh(tokensOf(retried).refresh_token)).statusCode).toBe(200)
    expect(await generation()).toBe(2)
  })

  test('does not make the window slide, however often it is retried', async () => {
    const { tokens, refresh } = await signedUp(app)
    await refresh()
    const [issued] =
      await sql`select issued_at from refresh_tokens where session_id = ${sessionIdOf(tokens.refresh_token)} and generation = 1`
    await refresh()
    const [after] =
      await sql`select issued_at from refresh_tokens where session_id = ${sessionIdOf(tokens.refresh_token)} and generation = 1`
    expect(after).toEqual(issued)
  })

  test('gives an access token that works', async () => {
    const { refresh, me } = await signedUp(app)
    await refresh()
    expect((await me(tokensOf(await refresh()).access_token)).statusCode).toBe(200)
  })
})

describe('3. a replay', () => {
  test('just inside the window gets the successor', async () => {
    const { tokens, refresh } = await signedUp(app)
    const next = tokensOf(await refresh())
    await age(tokens.refresh_token, 1, 9)
    expect(tokensOf(await refresh()).refresh_token).toBe(next.refresh_token)
  })

  test('just outside the window is late, and ends the session where late retries are switched off', async () => {
    const late = await signedUp(app)
    const before = { replayed: await outcome('replayed'), late: await outcome('late') }
    await late.refresh()
    await age(late.tokens.refresh_token, 1, 11)
    expect((await late.refresh()).statusCode).toBe(200)
    expect(await outcome('replayed')).toBe(before.replayed)
    expect(await outcome('late')).toBe(before.late + 1)

    const strict = await startService({ REFRESH_LATE_RETRIES: '0' })
    const { tokens, refresh, me } = await signedUp(strict.app)
    const next = tokensOf(await refresh())
    await strict.sql`update refresh_tokens set issued_at = issued_at - interval '11 seconds'`
    const reply = await refresh(tokens.refresh_token)
    expect([reply.statusCode, codeOf(reply)]).toEqual([401, 'refresh_token_reused'])
    expect(codeOf(await refresh(next.refresh_token))).toBe('refresh_token_revoked')
    expect((await me(next.access_token)).statusCode).toBe(401)
  })

  test('with a window of 0 seconds and without late retries is a reuse at once', async () => {
    const strict = await startService({ REFRESH_GRACE_SECONDS: '0', REFRESH_LATE_RETRIES: '0' })
    const { refresh } = await signedUp(strict.app)
    await refresh()
    expect(codeOf(await refresh())).toBe('refresh_token_reused')
  })

  test('after logout is told that the session has ended', async () => {
    const { refresh, logOut } = await signedUp(app)
    await refresh()
    await logOut()
    expect(codeOf(await refresh())).toBe('refresh_token_revoked')
  })

  test('after the user was disabled is refused, and the session is not revoked by it', async () => {
    const { refresh, userId } = await signedUp(app)
    await sql`update users set is_active = false where id = ${userId}`
    expect(codeOf(await refresh())).toBe('refresh_token_user_disabled')
    await sql`update users set is_active = true where id = ${userId}`
    expect((await refresh()).statusCode).toBe(200)
  })

  test('after the token or its session has expired is refused', async () => {
    const idle = await signedUp(app)
    await sql`update refresh_tokens set expires_at = now() where session_id = ${sessionIdOf(idle.tokens.refresh_token)}`
    expect(codeOf(await idle.refresh())).toBe('refresh_token_expired')

    const old = await signedUp(app)
    await sql`update sessions set expires_at = now() where id = ${sessionIdOf(old.tokens.refresh_token)}`
    expect(codeOf(await old.refresh())).toBe('refresh_token_expired')
  })

  test('never outlives the absolute end of the session', async () => {
    const { tokens, refresh } = await signedUp(app)
    await sql`update sessions set expires_at = now() + interval '5 minutes' where id = ${sessionIdOf(tokens.refresh_token)}`
    const { expires_in: expiresIn } = tokensOf(await refresh())
    expect(expiresIn).toBeGreaterThan(0)
    expect(expiresIn).toBeLessThanOrEqual(300)
    const [row] = await sql`
      select t.expires_at = s.expires_at as same from refresh_tokens t join sessions s on s.id = t.session_id
      where s.id = ${sessionIdOf(tokens.refresh_token)} and t.generation = 1`
    expect(row?.['same']).toBe(true)
  })
})

describe('4. a token presented after its successor was used', () => {
  test('inside the window is superseded, and the session lives', async () => {
    const { refresh } = await signedUp(app)
    const second = tokensOf(await refresh())
    const third = tokensOf(await refresh(second.refresh_token))
    const reply = await refresh()
    expect([reply.statusCode, codeOf(reply)]).toEqual([401, 'refresh_token_superseded'])
    expect((await refresh(third.refresh_token)).statusCode).toBe(200)
  })

  test('outside the window is a reuse: the session is dead, the others of the user live, and it is audited', async () => {
    const { tokens, refresh, logIn, userId } = await signedUp(app)
    const other = tokensOf(await logIn())
    const second = tokensOf(await refresh())
    const third = tokensOf(await refresh(second.refresh_token))
    await age(tokens.refresh_token, 1, 11)

    expect(codeOf(await refresh())).toBe('refresh_token_reused')
    expect(codeOf(await refresh(third.refresh_token))).toBe('refresh_token_revoked')
    expect((await refresh(other.refresh_token)).statusCode).toBe(200)
    const events =
      await sql`select session_id from audit_events where user_id = ${userId} and type = 'refresh_token.reused'`
    expect(events).toEqual([{ session_id: sessionIdOf(tokens.refresh_token) }])
    expect(await metric(app, 'auth_sessions_revoked_total{reason="reuse"}')).toBeGreaterThan(0)
  })

  test('with a wrong secret for the unspent generation is unknown, moves nothing and ends nothing', async () => {
    const { tokens, refresh } = await signedUp(app)
    const guess = tokens.refresh_token.replace(/[^.]+$/, randomBytes(32).toString('base64url'))
    expect(codeOf(await refresh(guess))).toBe('refresh_token_invalid')
    const [session] = await sql`select generation from sessions where id = ${sessionIdOf(tokens.refresh_token)}`
    expect(session).toEqual({ generation: 0 })
    expect((await refresh()).statusCode).toBe(200)
  })

  test('10 times at once leaves one event', async () => {
    const { tokens, refresh, userId } = await signedUp(app)
    await refresh(tokensOf(await refresh()).refresh_token)
    await age(tokens.refresh_token, 1, 11)
    const replies = await Promise.all(Array.from({ length: 10 }, () => refresh()))
    expect(replies.map(codeOf)).toContain('refresh_token_reused')
    const events = await sql`select 1 from audit_events where user_id = ${userId} and type = 'refresh_token.reused'`
    expect(events).toHaveLength(1)
  })

  test('with a wrong secret is unknown and ends nothing', async () => {
    const { tokens, refresh } = await signedUp(app)
    const next = tokensOf(await refresh())
    await age(tokens.refresh_token, 1, 11)
    const guess = tokens.refresh_token.replace(/[^.]+$/, randomBytes(32).toString('base64url'))
    expect(codeOf(await refresh(guess))).toBe('refresh_token_invalid')
    expect((await refresh(next.refresh_token)).statusCode).toBe(200)
  })
})

describe('5. a logout that races with a refresh', () => {
  test.each(['logout first', 'refresh first'])('leaves nothing of the session working (%s)', async (order) => {
    for (let round = 0; round < 25; round++) {
      const { tokens, refresh, logOut, me } = await signedUp(app)
      const race = order === 'logout first' ? [logOut(), refresh()] : [refresh(), logOut()]
      const [a, b] = await Promise.all(race)
      const refreshed = order === 'logout first' ? b : a
      const last = refreshed?.statusCode === 200 ? tokensOf(refreshed) : tokens
      expect((await refresh(last.refresh_token)).statusCode).toBe(401)
      expect((await refresh()).statusCode).toBe(401)
      expect((await me(last.access_token)).statusCode).toBe(401)
    }
  })
})

describe('6. a SECRET_KEY that changes within the window', () => {
  const successorOf = { SECRET_KEY: 'another-key-for-tests-0123456789-zyxwvuts' }

  test('makes the retry superseded, and the session lives', async () => {
    const first = await startService()
    const { tokens, refresh } = await signedUp(first.app)
    const next = tokensOf(await refresh())
    const second = await startService(successorOf, first)
    expect(codeOf(await refreshWith(second.app, tokens.refresh_token))).toBe('refresh_token_superseded')
    expect((await refreshWith(second.app, next.refresh_token)).statusCode).toBe(200)
  })

  test('is bridged by SECRET_KEY_PREVIOUS, for retries and for access tokens', async () => {
    const first = await startService()
    const { tokens, refresh } = await signedUp(first.app)
    const next = tokensOf(await refresh())
    const previous = 'a-key-for-tests-0123456789-abcdefghijklmnop'
    const second = await startService({ ...successorOf, SECRET_KEY_PREVIOUS: previous }, first)
    expect(tokensOf(await refreshWith(second.app, tokens.refresh_token)).refresh_token).toBe(next.refresh_token)
    expect((await get(second.app, '/api/v1/me', { authorization: `Bearer ${next.access_token}` })).statusCode).toBe(200)
  })
})

describe('the database', () => {
  test('holds neither the token nor anything that gives it back', async () => {
    const { tokens, refresh } = await signedUp(app)
    const next = tokensOf(await refresh())
    const rows = await sql`
      select row_to_json(t)::text as token, row_to_json(s)::text as session
      from refresh_tokens t join sessions s on s.id = t.session_id
      where s.id = ${sessionIdOf(tokens.refresh_token)}`
    const secrets = [tokens, next].map(({ refresh_token: text }) => Buffer.from(text.split('.')[2] ?? '', 'base64url'))
    for (const secret of secrets) {
      expect(JSON.stringify(rows)).not.toContain(secret.toString('hex'))
      expect(JSON.stringify(rows)).not.toContain(secret.toString('base64url'))
    }
    expect(rows.length).toBe(2)
  })
})

describe('a refresh token', () => {
  test.each([
    '',
    'x',
    'lkr_',
    'lkr_AAAAAAAAAAAAAAAAAAAAAA.0.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB',
    'eyJhbGciOiJub25lIn0.e30.',
  ])('that is not one (%j) is refused without a look at the database', async (text) => {
    expect(codeOf(await refreshWith(app, text))).toBe('refresh_token_invalid')
  })

  test('does not pass as an access token, nor an access token as a refresh token', async () => {
    const { tokens, me, refresh } = await signedUp(app)
    expect((await me(tokens.refresh_token)).statusCode).toBe(401)
    expect(codeOf(await refresh(tokens.access_token))).toBe('refresh_token_invalid')
  })

  test('is taken from a form too', async () => {
    const { tokens } = await signedUp(app)
    const body = new URLSearchParams({ refresh_token: tokens.refresh_token }).toString()
    const reply = await post(app, '/api/v1/refresh', body, { 'content-type': 'application/x-www-form-urlencoded' })
    expect(reply.statusCode).toBe(200)
  })
})

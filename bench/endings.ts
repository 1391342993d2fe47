import { connectAlone } from '#src/db/connect-alone.ts'
import { benchPassword } from './load.ts'
import { startPostgres, startService, stopEverything } from './processes.ts'

const many = 100_000
const events = 500_000
const rounds = 3

type Act = (as: string, userId: number) => Promise<Response>

/** What it takes to end 100,000 live sessions of one user, and to delete somebody with 500,000 events, against one of each. */
try {
  const url = await (await startPostgres())('latchkey_bench_endings')
  const sql = connectAlone(url)
  const { base } = await startService(url)
  const call = (method: string, path: string, token: string, body?: object) =>
    fetch(`${base}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, ...(body ? { 'content-type': 'application/json' } : {}) },
      ...(body ? { body: JSON.stringify(body) } : {}),
    })
  const logIn = async (email: string) => {
    const reply = await fetch(`${base}/api/v1/token`, {
      method: 'POST',
      body: new URLSearchParams({ username: email, password: benchPassword }),
    })
    return ((await reply.json()) as { access_token: string }).access_token
  }
  const signUp = async (email: string) => {
    const reply = await fetch(`${base}/api/v1/users/`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ email, password: benchPassword }),
    })
    return ((await reply.json()) as { id: number }).id
  }
  const adminId = await signUp('admin@example.com')
  await sql`update users set roles = '{user,admin}' where id = ${adminId}`
  const admin = await logIn('admin@example.com')

  const acts: Record<string, Act> = {
    logout: (token) => call('POST', '/logout', token, {}),
    'logout by an administrator': (_, id) => call('POST', `/users/${id}/logout`, admin),
    disable: (_, id) => call('PATCH', `/users/${id}`, admin, { is_active: false }),
    'change of password': (token) =>
      call('POST', '/me/password', token, { current_password: benchPassword, new_password: 'a quite different one' }),
    delete: (token) => call('DELETE', '/me', token, { password: benchPassword }),
  }
  /** Milliseconds of one act by or on a new user with so many sessions and events; all of them have to count at once. */
  const timed = async (act: Act, name: string, sessions: number, failures: number) => {
    const userId = await signUp(name)
    const [own, other] = [await logIn(name), await logIn(name)]
    await sql`
      insert into sessions (id, user_id, epoch, created_at, expires_at)
      select gen_random_uuid(), ${userId}, 0, now() - interval '1 day', now() + interval '30 days'
      from generate_series(1, ${sessions}::integer)`
    await sql`insert into audit_events (type, user_id) select 'login.failed', ${userId} from generate_series(1, ${failures}::integer)`
    await sql`analyze`
    const started = performance.now()
    const { status } = await act(own, userId)
    const ms = performance.now() - started
    const after = await call('GET', '/me', other)
    if (status >= 300 || after.status !== 401) throw new Error(`${name}: ${status}, then ${after.status}`)
    return ms
  }
  const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
  for (const [name, act] of Object.entries(acts)) {
    const few: number[] = []
    const lots: number[] = []
    for (let round = 0; round < rounds; round++) {
      const at = `${name.replaceAll(' ', '-')}-${round}@example.com`
      few.push(await timed(act, `few-${at}`, 1, 1))
      lots.push(await timed(act, `many-${at}`, many, name === 'delete' ? events : 1))
    }
    const [one, all] = [median(few), median(lots)]
    process.stdout.write(
      `${JSON.stringify({ name, sessions: many, ms: Math.round(all), msWithOne: Math.round(one), worst: Math.round(Math.max(...lots)), ratio: Number((all / one).toFixed(2)) })}\n`,
    )
  }
  await sql.end()
} finally {
  await stopEverything()
}

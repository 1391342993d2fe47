import type postgres from 'postgres'
import { connectAlone } from './connect-alone.ts'
import { clock } from './clock.ts'
import { codeOf, isOutOfStep, SchemaError } from './faults.ts'

const rounds = 3
/** A pooler with a single connection lets nobody else through meanwhile. */
const holdMs = 500

/** Whether a pooler stands in between: it gives its clients process ids that are not those of the server. */
export async function isBehindPooler(connection: postgres.Sql): Promise<boolean> {
  const result = await connection<{ pid: number }[]>`select pg_backend_pid() as pid`.simple()
  return result[0]?.pid !== (result as unknown as { state: { pid: number } }).state.pid
}

/**
 * Throws `SchemaError` when the pooler hands clients from one server connection to another and leaves their prepared
 * statements behind (PgBouncer before 1.21, or without `max_prepared_statements`): queries would fail, or worse, get the
 * rows of others. Resolves to whether clients keep their server connection, with its locks.
 */
export async function requireUsablePooler(url: string): Promise<boolean> {
  let sent = 0
  const asker = connectAlone(url, { debug: () => sent++ })
  const holder = connectAlone(url)
  try {
    const servers = new Set([await ask(asker)])
    for (let round = 0; round < rounds; round++) servers.add(await askElsewhere(asker, holder))
    // The driver prepares a statement that was lost once more, and says nothing.
    if (sent > rounds + 1) throw new SchemaError(unusable)
    return servers.size === 1
  } catch (error) {
    throw isOutOfStep(error) ? new SchemaError(unusable, { cause: codeOf(error) }) : error
  } finally {
    await Promise.all([asker.end({ timeout: 0 }), holder.end({ timeout: 0 })])
  }
}

const unusable =
  'The pooler loses prepared statements: use session mode, or transaction mode of PgBouncer 1.21 or newer with max_prepared_statements above 0; see docs/operations.md.'

/** Resolves to the process id of the server connection that answered. */
async function ask(asker: postgres.Sql): Promise<number | undefined> {
  const [row] = await asker<{ pid: number }[]>`select pg_backend_pid() as pid, ${1}::integer as prepared`
  return row?.pid
}

/**
 * Asks while another client holds, in a transaction, the server connection that was used last; resolves to `undefined`
 * when there was no other one, so that it had to be given back.
 */
async function askElsewhere(asker: postgres.Sql, holder: postgres.Sql): Promise<number | undefined> {
  await holder.unsafe('begin')
  let isGivenBack = false
  const alarm = clock.set(holdMs, () => {
    isGivenBack = true
    void holder.unsafe('rollback').catch(() => {})
  })
  try {
    const server = await ask(asker)
    return isGivenBack ? undefined : server
  } finally {
    clock.cancel(alarm)
    await holder.unsafe('rollback')
  }
}

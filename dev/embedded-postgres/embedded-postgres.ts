import { existsSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { makeFolder } from '#src/data-folder.ts'
import { connectAlone } from '#src/db/connect-alone.ts'
import { initialise } from './cluster.ts'
import { lock } from './lock.ts'
import { findPlace } from './place.ts'
import { end } from './program.ts'
import { launch, type Server, urlOf } from './server.ts'
import { type Report, superviseServer } from './supervisor.ts'

export { EmbeddedPostgresError } from './error.ts'

export interface EmbeddedPostgres {
  /** With the socket as libpq writes it, `?host=/folder`, which `src/db/driver.ts` reads; the same after a restart. */
  readonly url: string
  /** Where the data really are. */
  readonly dataDir: string
  /** Says from now on there when the server has ended and is started again. */
  readonly reportTo: (report: Report) => void
  readonly stop: () => Promise<void>
}

/** Before each try to start a server again that has ended; after the last one somebody has to look. */
const pausesMs = [0, 500, 1000, 2000, 4000, 8000, 15_000, 30_000]

/**
 * Starts a private Postgres on `dataDir`, which is made when it is new, waits until it answers, and starts it again when
 * it ends by itself. Only a socket in a folder of its owner leads to it. Throws `EmbeddedPostgresError` when a service
 * runs on the folder or Postgres cannot.
 */
export async function startEmbeddedPostgres(options: {
  readonly dataDir: string
  readonly settings?: Readonly<Record<string, string>>
}): Promise<EmbeddedPostgres> {
  const { settings = {} } = options
  const wanted = resolve(options.dataDir)
  makeFolder(dirname(wanted))
  const place = await findPlace(wanted)
  const { dataDir } = place
  const unlock = lock(dataDir, wanted)
  const stopping = new AbortController()
  const { signal } = stopping
  let server: Server | undefined
  try {
    if (!existsSync(join(dataDir, 'PG_VERSION'))) await initialise(place, settings)
    server = await launch(place, { settings, signal })
    await nameDatabase(server)
  } catch (error) {
    if (server) await end(server)
    unlock()
    throw error
  }

  const { socketDir } = server
  let listener: Report | undefined
  const report: Report = {
    warn: (sentence) => listener?.warn(sentence),
    error: (sentence) => listener?.error(sentence),
  }
  const startAgain = () => launch(place, { settings, socketDir, signal })
  const ended = superviseServer(server, startAgain, { signal, report, pausesMs }).finally(unlock)
  return {
    url: urlOf(server, 'latchkey'),
    dataDir,
    reportTo: (report) => {
      listener = report
    },
    stop: async () => {
      stopping.abort()
      await ended
    },
  }
}

/** Calls initdb's database by our name, which proves that the server answers, too. */
async function nameDatabase(server: Server): Promise<void> {
  try {
    await runSql(urlOf(server, 'latchkey'), 'select 1')
  } catch (error) {
    if ((error as { code?: string }).code !== '3D000') throw error
    await runSql(urlOf(server, 'template1'), 'alter database postgres rename to latchkey')
  }
}

async function runSql(url: string, statement: string): Promise<void> {
  const sql = connectAlone(url)
  try {
    await sql.unsafe(statement)
  } finally {
    await sql.end()
  }
}

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFile, chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import { connectAlone } from '#src/db/connect-alone.ts'
import {
  type EmbeddedPostgres,
  EmbeddedPostgresError,
  startEmbeddedPostgres,
} from '#dev/embedded-postgres/embedded-postgres.ts'
import { superviseServer } from '#dev/embedded-postgres/supervisor.ts'
import { temporaryFolder } from '#test/support/process.ts'

const settings = { fsync: 'off' }
const made = await startEmbeddedPostgres({ dataDir: join(await temporaryFolder(), 'postgres'), settings })
await made.stop()

describe('the embedded Postgres', () => {
  test('makes a database that answers, reached by a socket only', async () => {
    const dataDir = await newDataDir()
    const postgres = await start(dataDir)
    expect(postgres.dataDir).toBe(dataDir)
    expect(await ask(postgres, 'select current_user, current_database()')).toEqual([
      { current_user: 'latchkey', current_database: 'latchkey' },
    ])
    const shown = await ask(
      postgres,
      `select name, setting from pg_settings
        where name in ('listen_addresses', 'fsync', 'data_checksums', 'server_encoding') order by name`,
    )
    expect(shown.map(({ setting }) => setting)).toEqual(['on', 'off', '', 'UTF8'])
  })

  test('keeps its data over a restart, and is stopped twice without harm', async () => {
    const dataDir = await madeDataDir()
    const first = await start(dataDir)
    await ask(first, 'create table kept as select 1 as n')
    await first.stop()
    await first.stop()
    const second = await start(dataDir)
    await first.stop()
    expect(await ask(second, 'select n from kept')).toEqual([{ n: 1 }])
  })

  test('is refused a second time on the same folder, in one sentence that names it', async () => {
    const dataDir = await madeDataDir()
    const first = await start(dataDir)
    const sentence = `Another Latchkey runs on ${dataDir} (process ${process.pid}); stop it or set DATA_DIR.`
    await expect(start(dataDir)).rejects.toThrow(new EmbeddedPostgresError(sentence))
    expect(await ask(first, 'select 1 as n')).toEqual([{ n: 1 }])
  })

  test('runs once when several services start on one new folder at the same moment', async () => {
    const dataDir = await newDataDir()
    const services = Array.from({ length: 4 }, () => startService(dataDir))
    const outputs = await Promise.all(services.map(({ firstLine }) => firstLine))
    expect(outputs.filter((line) => line.startsWith('postgres://'))).toHaveLength(1)
    expect(outputs.filter((line) => line.startsWith('Error: Another Latchkey'))).toHaveLength(3)
  })

  test('is gone after kill -9 of its service, and starts again at once with the data', async () => {
    const dataDir = await madeDataDir()
    const { child, exited, firstLine } = startService(dataDir)
    await ask({ url: await firstLine }, 'create table kept as select 1 as n')
    child.kill('SIGKILL')
    await exited
    const next = await start(dataDir)
    expect(await ask(next, 'select n from kept')).toEqual([{ n: 1 }])
    await next.stop()
    await until(() => !isRunningOn(dataDir))
  })

  test('leaves nothing running after kill -9 of its service while it starts', async () => {
    const dataDir = await madeDataDir()
    await (await start(dataDir)).stop()
    const { child } = startService(dataDir)
    await until(() => isRunningOn(dataDir))
    child.kill('SIGKILL')
    await until(() => !isRunningOn(dataDir))
  })

  test('starts over a stale postmaster.pid, also one whose number is another program by now', async () => {
    const dataDir = await madeDataDir()
    const first = await start(dataDir)
    const before = await readFile(join(dataDir, 'postmaster.pid'), 'utf8')
    await first.stop()
    const ended = spawn('true')
    await once(ended, 'exit')
    for (const pid of [ended.pid, process.pid]) {
      await writeFile(join(dataDir, 'postmaster.pid'), before.replace(/^\d+/, String(pid)))
      const next = await start(dataDir)
      expect(await postmaster(dataDir)).not.toBe(pid)
      await next.stop()
    }
  })

  test('starts again after its own processes were killed', async () => {
    const dataDir = await madeDataDir()
    const first = await start(dataDir)
    await ask(first, 'create table kept as select 1 as n')
    process.kill(await postmaster(dataDir), 'SIGKILL')
    await first.stop()
    expect(await ask(await start(dataDir), 'select n from kept')).toEqual([{ n: 1 }])
  })

  test.for([
    { what: 'its postmaster', signal: 'SIGKILL', name: '.' },
    { what: 'its postmaster, by a signal to stop', signal: 'SIGINT', name: 'x'.repeat(120) },
    { what: 'its postmaster, with the socket elsewhere', signal: 'SIGKILL', name: 'x'.repeat(120) },
  ] as const)('is started again in the same place when somebody kills $what', async ({ signal, name }) => {
    const dataDir = await madeDataDir(name)
    const postgres = await start(dataDir)
    const said = listenTo(postgres)
    await ask(postgres, 'create table kept as select 1 as n')
    for (const count of [1, 2]) {
      const before = await postmaster(dataDir)
      process.kill(before, signal)
      await until(async () => said.length === count && (await answers(postgres)))
      expect(await ask(postgres, 'select n from kept')).toEqual([{ n: 1 }])
      expect(await postmaster(dataDir)).not.toBe(before)
    }
    expect(said).toEqual(Array(2).fill('the embedded Postgres has ended and is started again'))
    await postgres.stop()
    await until(() => !isRunningOn(dataDir))
  })

  test('is started again when somebody kills its watchdog, and never runs twice', async () => {
    const dataDir = await madeDataDir()
    const postgres = await start(dataDir)
    const said = listenTo(postgres)
    await ask(postgres, 'create table kept as select 1 as n')
    const before = await postmaster(dataDir)
    const watchdog = Number(execFileSync('ps', ['-o', 'ppid=', '-p', String(before)], { encoding: 'utf8' }))
    process.kill(watchdog, 'SIGKILL')
    await until(async () => ![before, 0].includes(await postmaster(dataDir)) && (await answers(postgres)))
    expect(said).toHaveLength(1)
    expect(await ask(postgres, 'select n from kept')).toEqual([{ n: 1 }])
    const [server, ...others] = programsOn(dataDir).filter((args) => !args.startsWith('/bin/sh'))
    expect([server, others]).toEqual([expect.stringContaining('/bin/postgres -D'), []])
  })

  test('stays stopped when it is stopped while it is started again', async () => {
    const dataDir = await madeDataDir()
    const postgres = await start(dataDir)
    const said = listenTo(postgres)
    process.kill(await postmaster(dataDir), 'SIGKILL')
    await until(() => said.length > 0)
    await postgres.stop()
    expect(isRunningOn(dataDir)).toBe(false)
    expect(await ask(await start(dataDir), 'select 1 as n')).toEqual([{ n: 1 }])
  })

  test('is given up when every try to start it again has failed', async () => {
    const ended = { child: spawn('true'), exited: Promise.resolve(''), socketDir: '/nowhere' }
    const said: string[] = []
    let tries = 0
    const startAgain = () => Promise.reject(new Error(`try ${++tries} failed`))
    const report = { warn: (text: string) => said.push(text), error: (text: string) => said.push(`! ${text}`) }
    const { signal } = new AbortController()
    await superviseServer(ended, startAgain, { signal, report, pausesMs: [0, 0, 0] })
    expect(said).toEqual([
      'the embedded Postgres has ended and is started again',
      'try 1 failed',
      'try 2 failed',
      'try 3 failed',
      '! the embedded Postgres does not stay up and is not tried again; start the service again',
    ])
  })

  test('says what Postgres said when it does not start, and can start afterwards', async () => {
    const dataDir = await madeDataDir()
    await (await start(dataDir)).stop()
    await expect(startEmbeddedPostgres({ dataDir, settings: { no_such: 'x' } })).rejects.toThrow(
      /^The embedded Postgres does not start. It said: .*"no_such"/,
    )
    await appendFile(join(dataDir, 'postgresql.conf'), 'shared_buffers = none\n')
    await expect(start(dataDir)).rejects.toThrow(/shared_buffers/)
    await appendFile(join(dataDir, 'postgresql.conf'), 'shared_buffers = 16MB\n')
    expect(await ask(await start(dataDir), 'show shared_buffers')).toEqual([{ shared_buffers: '16MB' }])
  })

  test('leaves nothing half-made after kill -9 of its service in the middle of initdb', async () => {
    const dataDir = await newDataDir()
    const folder = dirname(dataDir)
    const { child, exited } = startService(dataDir)
    const halves = async () => (await readdir(folder)).filter((name) => name.includes('.new-'))
    await until(async () => (await halves()).length > 0)
    child.kill('SIGKILL')
    await exited
    await mkdir(`${dataDir}.new-older`)
    expect(await ask(await start(dataDir), 'select 1 as n')).toEqual([{ n: 1 }])
    await until(async () => (await halves()).length === 0)
  })

  test.for([
    { path: 'too long for a socket', name: 'x'.repeat(120) },
    { path: 'with a comma, blanks and letters of Unicode', name: 'a, b ü' },
  ])('works in a folder whose path is $path', async ({ name }) => {
    const postgres = await start(await newDataDir(name))
    expect(await ask(postgres, 'select 1 as n')).toEqual([{ n: 1 }])
    const socketDir = new URL(postgres.url).searchParams.get('host') ?? ''
    expect(Buffer.byteLength(socketDir)).toBeLessThan(90)
    await postgres.stop()
    await expect(readdir(socketDir)).rejects.toThrow('ENOENT')
  })
})

/** A folder in which initdb was at work already, for tests of what comes after. */
async function madeDataDir(...path: string[]): Promise<string> {
  const dataDir = await newDataDir(...path)
  await mkdir(dirname(dataDir), { recursive: true })
  execFileSync('cp', ['-a', made.dataDir, dataDir])
  return dataDir
}

async function newDataDir(...path: string[]): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'latchkey-test-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  // As root, Postgres runs as another user, who has to get through.
  await chmod(folder, 0o755)
  return join(folder, ...path, 'postgres')
}

async function start(dataDir: string): Promise<EmbeddedPostgres> {
  const postgres = await startEmbeddedPostgres({ dataDir, settings })
  onTestFinished(postgres.stop)
  return postgres
}

/** What is said from now on about the server. */
function listenTo(postgres: EmbeddedPostgres): string[] {
  const said: string[] = []
  postgres.reportTo({ warn: (sentence) => said.push(sentence), error: (sentence) => said.push(sentence) })
  return said
}

async function answers(postgres: EmbeddedPostgres): Promise<boolean> {
  return ask(postgres, 'select 1').then(
    () => true,
    () => false,
  )
}

/** A process that starts Postgres, prints its URL or the error, and lives on. */
function startService(dataDir: string): { child: ChildProcess; exited: Promise<unknown>; firstLine: Promise<string> } {
  const program = `
    import { startEmbeddedPostgres } from '#dev/embedded-postgres/embedded-postgres.ts'
    const options = JSON.parse(process.argv[1])
    console.log(await startEmbeddedPostgres(options).then(({ url }) => url, String))
    setInterval(() => {}, 1000)`
  const args = ['--input-type=module', '--eval', program, JSON.stringify({ dataDir, settings })]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await exited
  })
  return { child, exited, firstLine: once(child.stdout, 'data').then(([chunk]) => String(chunk).trim()) }
}

async function ask({ url }: { url: string }, statement: string): Promise<Array<Record<string, unknown>>> {
  const sql = connectAlone(url)
  try {
    return await sql.unsafe(statement)
  } finally {
    await sql.end()
  }
}

/** The number of the server's process, 0 when there is none. */
async function postmaster(dataDir: string): Promise<number> {
  return Number.parseInt(await readFile(join(dataDir, 'postmaster.pid'), 'utf8').catch(() => '0'), 10)
}

/** The arguments of the server and its watchdog; zombies have lost theirs. */
function programsOn(dataDir: string): string[] {
  const lines = execFileSync('ps', ['-axwwo', 'args='], { encoding: 'utf8' }).split('\n')
  return lines.filter((args) => args.includes(` -D ${dataDir} `))
}

function isRunningOn(dataDir: string): boolean {
  return programsOn(dataDir).length > 0
}

async function until(condition: () => unknown): Promise<void> {
  const deadline = Date.now() + 10_000
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not in time: ${condition.toString()}`)
    await setTimeout(10)
  }
}

import { spawn } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { vi } from 'vitest'
import {
  bare,
  followServer,
  freePort,
  onDatabase,
  send,
  type ServerProcess,
  temporaryFolder,
} from '#test/support/process.ts'
import { site } from './proxies.ts'

/** One instance of the service at an address that it keeps. */
export interface Instance {
  /** Host and port. */
  readonly at: string
  /** The value of a series of its metrics, 0 when there is none. */
  readonly metric: (series: string) => Promise<number>
  /** Ends it by SIGTERM, starts it again (from another folder where one is given), and waits until it serves clients. */
  readonly replace: (folder?: string) => Promise<void>
}

/** An instance as in production, behind a proxy on this machine. */
export async function startInstance(url: string, environment: Record<string, string>): Promise<Instance> {
  const port = await freePort()
  const base = `http://127.0.0.1:${port}`
  const env = {
    ...bare,
    ...onDatabase(url),
    ENVIRONMENT: 'production',
    PUBLIC_URL: `https://${site}`,
    TRUSTED_PROXIES: '127.0.0.1/32',
    METRICS: 'open',
    PORT: String(port),
    ...environment,
  }
  const start = async (folder: string): Promise<ServerProcess> => {
    const program = join(folder, 'src/server.ts')
    const server = followServer(
      spawn(process.execPath, [program], { env, cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] }),
    )
    await server.listening
    await vi.waitUntil(async () => (await send(`${base}/ready`)).status === 200, { timeout: 20_000 })
    return server
  }
  const metric = async (series: string) => {
    const text = await (await fetch(`${base}/metrics`)).text()
    const line = text.split('\n').find((each) => each.startsWith(`${series} `))
    return Number(line?.slice(series.length + 1) ?? 0)
  }
  let server = await start(process.cwd())
  return {
    at: `127.0.0.1:${port}`,
    metric,
    replace: async (folder = process.cwd()) => {
      server.child.kill('SIGTERM')
      const { code, output } = await server.exited
      if (code !== 0) throw new Error(output)
      server = await start(folder)
      // The proxy has found it again.
      const serves = async () => (await metric('auth_refresh_total{outcome="rotated"}')) > 20
      await vi.waitUntil(serves, { timeout: 30_000, interval: 100 })
    },
  }
}

/** A copy of the service that is newer by a version and by one migration; resolves to its folder. */
export async function makeNextVersion(version: string, migration: string): Promise<string> {
  const folder = await temporaryFolder()
  for (const name of ['src', 'drizzle', 'package.json', 'client'])
    cpSync(name, join(folder, name), { recursive: true, filter: (source) => !source.includes('node_modules') })
  symlinkSync(join(process.cwd(), 'node_modules'), join(folder, 'node_modules'))
  mkdirSync(join(folder, 'dev'))
  const edit = (name: string, change: (content: never) => object) => {
    const file = join(folder, name)
    writeFileSync(file, JSON.stringify(change(JSON.parse(readFileSync(file, 'utf8')) as never)))
  }
  edit('package.json', (content: object) => ({ ...content, version }))
  edit('drizzle/meta/_journal.json', (journal: { entries: { idx: number; when: number }[] }) => {
    const last = journal.entries.at(-1)
    if (!last) throw new Error('there is no migration')
    const next = { ...last, idx: last.idx + 1, when: last.when + 1, tag: 'next' }
    return { ...journal, entries: [...journal.entries, next] }
  })
  writeFileSync(join(folder, 'drizzle/next.sql'), migration)
  return folder
}

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { Redis } from 'ioredis'
import { cleanUp } from './clean-up.ts'
import { freePort, temporaryFolder } from './process.ts'

/** A Redis for one test file: the one of TEST_REDIS_URL, or a server of its own; `undefined` when neither is there. */
export async function startRedis(): Promise<string | undefined> {
  const given = process.env['TEST_REDIS_URL']
  if (given) return given
  const port = await freePort()
  const options = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', await temporaryFolder()]
  const child = spawn('redis-server', options, { stdio: ['ignore', 'pipe', 'inherit'] })
  const started = await Promise.race([
    once(child, 'error').then(() => false),
    (async () => {
      for await (const chunk of child.stdout) if (String(chunk).includes('Ready to accept connections')) return true
      return false
    })(),
  ])
  if (!started) return undefined
  child.stdout.resume()
  cleanUp(async () => {
    child.kill()
    if (child.exitCode === null) await once(child, 'exit')
  })
  return `redis://127.0.0.1:${port}`
}

/** A client for looking at keys. */
export function redisClient(url: string): Redis {
  const redis = new Redis(url)
  cleanUp(() => redis.disconnect())
  return redis
}

/** Stands between the service and Redis; frozen, it takes everything and answers nothing, as a half-open connection. */
export interface Middleman {
  readonly url: string
  readonly freeze: () => void
  /** New connections get through again; those of before stay dead. */
  readonly thaw: () => void
  /** Commands that arrived since the last `freeze`. */
  readonly commandsLost: () => number
  readonly connections: () => number
}

export async function standBetween(redisUrl: string): Promise<Middleman> {
  const target = { host: '127.0.0.1', port: Number(new URL(redisUrl).port) }
  let frozen = false
  let lost = 0
  let connections = 0
  const dead = new WeakSet<Socket>()
  const open = new Set<Socket>()
  const server = createServer((socket) => {
    connections++
    open.add(socket)
    const upstream = connect(target)
    if (frozen) dead.add(socket)
    socket.on('data', (chunk) => {
      if (dead.has(socket)) lost += String(chunk).match(/\beval(sha)?\b/gi)?.length ?? 0
      else upstream.write(chunk)
    })
    upstream.on('data', (chunk) => {
      if (!dead.has(socket)) socket.write(chunk)
    })
    for (const one of [socket, upstream]) one.on('error', () => {})
    socket.on('close', () => {
      open.delete(socket)
      upstream.destroy()
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  cleanUp(() => {
    server.close()
    for (const socket of open) socket.destroy()
  })
  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    freeze: () => {
      frozen = true
      lost = 0
      for (const socket of open) dead.add(socket)
    },
    thaw: () => {
      frozen = false
    },
    commandsLost: () => lost,
    connections: () => connections,
  }
}

import { execFileSync, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { pipeline } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { describe, expect, test } from 'vitest'
import { startEmbeddedPostgres } from '#dev/embedded-postgres/embedded-postgres.ts'
import { password } from '#test/support/actors.ts'
import { cleanUp } from '#test/support/clean-up.ts'
import { onDatabase, send, startServer, temporaryFolder } from '#test/support/process.ts'

/** The files of a certificate and its key. */
interface Identity {
  readonly cert: string
  readonly key: string
}

interface TlsServer {
  readonly host: string
  /** Clients that came, and those that went on after they had seen the certificate. */
  readonly seen: { came: number; stayed: number }
}

/** A certificate for a name, signed by an authority or by itself. */
function makeIdentity(folder: string, name: string, authority?: Identity): Identity {
  const path = join(folder, `${name}-${authority ? 'signed' : 'own'}`)
  const [cert, key] = [`${path}.pem`, `${path}.key`]
  const by = authority ? ['-CA', authority.cert, '-CAkey', authority.key] : []
  const about = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=DNS:${name}`, '-days', '1', '-nodes']
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1']
  execFileSync('openssl', ['req', '-x509', ...curve, '-keyout', key, '-out', cert, ...about, ...by], {
    stdio: 'ignore',
  })
  return { cert, key }
}

/** Answers a client’s wish for TLS as Postgres does, under an identity, and hands it on to the server. */
async function serveTls(url: string, { cert, key }: Identity): Promise<TlsServer> {
  const path = `${new URL(url).searchParams.get('host')}/.s.PGSQL.5432`
  const seen = { came: 0, stayed: 0 }
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    sockets.add(client.on('error', () => {}))
    client.once('data', () => {
      seen.came++
      client.write('S')
      const secure = new TLSSocket(client, { isServer: true, cert: readFileSync(cert), key: readFileSync(key) })
      const upstream = connect(path)
      secure.once('data', () => void seen.stayed++)
      pipeline(secure, upstream, secure, () => {})
    })
  }).listen(0, 'localhost')
  await once(server, 'listening')
  cleanUp(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return { host: `localhost:${(server.address() as AddressInfo).port}`, seen }
}

describe('several hosts with sslmode=verify-full', () => {
  test('are used only under a certificate that names them, of an authority that is known', async ({ skip }) => {
    if (spawnSync('openssl', ['version']).error) {
      console.log('The test of several hosts with TLS is skipped: there is no openssl.')
      return skip('there is no openssl')
    }
    const folder = await temporaryFolder()
    const postgres = await startEmbeddedPostgres({ dataDir: join(folder, 'data') })
    cleanUp(postgres.stop)
    const authority = makeIdentity(folder, 'authority')
    const other = await serveTls(postgres.url, makeIdentity(folder, 'other.example.com', authority))
    const strange = await serveTls(postgres.url, makeIdentity(folder, 'localhost'))
    const right = await serveTls(postgres.url, makeIdentity(folder, 'localhost', authority))
    const startWith = (...servers: TlsServer[]) => {
      const hosts = servers.map(({ host }) => host).join()
      const url = `postgres://${new URL(postgres.url).username}@${hosts}/latchkey?sslmode=verify-full`
      return startServer({ ...onDatabase(url), NODE_EXTRA_CA_CERTS: authority.cert })
    }

    const base = await startWith(other, strange, right).listening
    expect((await send(`${base}/api/v1/users/`, { email: 'ada@example.com', password })).status).toBe(201)
    const { code, output } = await startWith(other, strange).exited
    expect([code, output]).toEqual([1, expect.stringContaining('database')])
    for (const { seen } of [other, strange]) {
      expect(seen.came).toBeGreaterThan(1)
      expect(seen.stayed).toBe(0)
    }
    expect(right.seen.stayed).toBeGreaterThan(0)
  })
})

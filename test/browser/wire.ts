import { once } from 'node:events'
import { type ClientRequest, createServer, request as ask, type IncomingMessage, type ServerResponse } from 'node:http'
import { setTimeout } from 'node:timers/promises'
import { cleanUp } from '#test/support/clean-up.ts'

/** What becomes of one request: `lose` and `late` when the service has answered, `fail` before it is asked. */
export type Fault =
  | { readonly kind: 'lose' }
  | { readonly kind: 'late'; readonly ms: number }
  | { readonly kind: 'held'; readonly until: Promise<unknown> }
  | {
      readonly kind: 'fail'
      readonly status: number
      readonly headers?: Record<string, string>
      readonly body?: string
    }

export type Rule = (path: string) => Fault | undefined

const page = (script: string) =>
  `<!doctype html><html lang="en"><title>Tab</title><script type="module">${script}</script>`

/** The origin of a page and of its API: what is between a browser and the service, with all that goes wrong there. */
export class Wire {
  /** Where the service is; another one may take its place. */
  target: string
  rule: Rule = () => undefined
  /** A script that runs in every tab before all others. */
  prepare = ''
  /** Whether nothing gets through. */
  isCut = false
  /** The browser client, by the path it is served at; what a tab imports is in its own `?client=`. */
  readonly modules = new Map<string, string>()
  /** What was put at `/cards/…` by whoever has a session; here and not in the service, as in an API of an app. */
  readonly cards = new Set<string>()
  /** The paths of the requests to the API, in order. */
  readonly requests: string[] = []
  readonly #server = createServer((request, reply) => void this.#serve(request, reply).catch(() => reply.destroy()))

  constructor(target: string) {
    this.target = target
  }

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    cleanUp(() => {
      this.#server.closeAllConnections()
      this.#server.close()
    })
    return `http://127.0.0.1:${(this.#server.address() as { port: number }).port}`
  }

  count(path: string): number {
    return this.requests.filter((seen) => seen === path).length
  }

  async #serve(request: IncomingMessage, reply: ServerResponse): Promise<void> {
    if (this.isCut) return void reply.destroy()
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://x')
    const module = this.modules.get(pathname)
    if (module !== undefined) return void reply.setHeader('content-type', 'text/javascript').end(module)
    if (pathname === '/tab') {
      const options = `{ url: location.origin, transport: '${searchParams.get('transport')}' }`
      const script = `
        import { createClient, LatchkeyError } from '${searchParams.get('client') ?? '/client.js'}'
        window.createAnother = () => createClient(${options})
        window.client = createAnother()
        window.isOurs = (error) => error instanceof LatchkeyError`
      return void reply.setHeader('content-type', 'text/html').end(`<script>${this.prepare}</script>${page(script)}`)
    }
    if (pathname === '/elsewhere') return void reply.setHeader('content-type', 'text/html').end(page(''))

    this.requests.push(pathname)
    const fault = this.rule(pathname)
    if (fault?.kind === 'fail') {
      request.resume()
      return void reply.writeHead(fault.status, fault.headers).end(fault.body)
    }
    const [, card] = /^\/cards\/(.+)$/.exec(pathname) ?? []
    const answer = await (card === undefined ? this.#forward(request) : this.#validate(request))
    const chunks = await answer.toArray()
    if (card !== undefined && answer.statusCode === 200) {
      this.cards.add(card)
      answer.statusCode = 204
    }
    if (fault?.kind === 'lose') return void reply.destroy()
    if (fault?.kind === 'late') await setTimeout(fault.ms)
    if (fault?.kind === 'held') await fault.until
    if (card !== undefined && answer.statusCode === 204) return void reply.writeHead(204).end()
    reply.writeHead(answer.statusCode ?? 502, answer.headers).end(Buffer.concat(chunks as Buffer[]))
  }

  #validate(request: IncomingMessage): Promise<IncomingMessage> {
    const { authorization = '' } = request.headers
    request.resume()
    return this.#send(ask(`${this.target}/api/v1/validate`, { method: 'POST', headers: { authorization } }).end())
  }

  #forward(request: IncomingMessage): Promise<IncomingMessage> {
    const { method, headers, url } = request
    return this.#send(request.pipe(ask(this.target + url, { method, headers })))
  }

  async #send(forwarded: ClientRequest): Promise<IncomingMessage> {
    const [answer] = (await once(forwarded, 'response')) as [IncomingMessage]
    return answer
  }
}

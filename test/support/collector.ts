import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { setTimeout } from 'node:timers/promises'
import { cleanUp } from './clean-up.ts'

/** A span as it was delivered. */
export interface Span {
  readonly resource: Readonly<Record<string, unknown>>
  readonly traceId: string
  readonly id: string
  readonly parentId: string
  readonly name: string
  readonly kind: 'server' | 'client' | 'other'
  readonly attributes: Readonly<Record<string, unknown>>
  /** Of the spans that it refers to. */
  readonly links: readonly string[]
  readonly events: number
  readonly isError: boolean
  readonly statusMessage: string
}

interface Delivery {
  readonly headers: NodeJS.Dict<string | string[]>
  readonly body: Buffer
  readonly at: number
  readonly isAnswered: boolean
}

/** A collector that takes OTLP by HTTP and keeps what it was sent. */
export class Collector {
  readonly deliveries: Delivery[] = []
  /** What it answers to a delivery. */
  status = 200
  /** Sends no answer while it is set. */
  isSilent = false
  /** Keeps back each answer for so long. */
  delayMs = 0
  readonly #server = createServer((request, response) => {
    void buffer(request).then(async (body) => {
      const isAnswered = !this.isSilent
      const isDelivery = request.url === '/v1/traces'
      if (isDelivery) this.deliveries.push({ headers: request.headers, body, at: performance.now(), isAnswered })
      if (this.delayMs > 0) await setTimeout(this.delayMs)
      if (isAnswered) response.writeHead(isDelivery ? this.status : 404).end()
    })
  })

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  get spans(): Span[] {
    return this.deliveries.flatMap(({ body }) => spansIn(body))
  }

  /** Those of deliveries that it has answered. */
  get taken(): Span[] {
    return this.deliveries.filter(({ isAnswered }) => isAnswered).flatMap(({ body }) => spansIn(body))
  }

  async listen(port = 0): Promise<void> {
    this.#server.listen(port, '127.0.0.1')
    await once(this.#server, 'listening')
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}

/** Listens until the test or its file ends. */
export async function startCollector(): Promise<Collector> {
  const collector = new Collector()
  await collector.listen()
  cleanUp(() => collector.close())
  return collector
}

/** The fields of a message by their numbers, as opentelemetry-proto has them. */
function spansIn(request: Buffer): Span[] {
  return messages(request, 1).flatMap((ofResource) => {
    const resource = attributesIn(messages(ofResource, 1)[0] ?? Buffer.alloc(0), 1)
    const spans = messages(ofResource, 2).flatMap((ofScope) => messages(ofScope, 2))
    return spans.map((span) => {
      const [status = Buffer.alloc(0)] = messages(span, 15)
      return {
        resource,
        traceId: hex(span, 1),
        id: hex(span, 2),
        parentId: hex(span, 4),
        name: words(span, 5),
        kind: ({ 2: 'server', 3: 'client' } as const)[Number(value(span, 6)) as 2 | 3] ?? 'other',
        attributes: attributesIn(span, 9),
        links: messages(span, 13).map((link) => hex(link, 2)),
        events: messages(span, 11).length,
        isError: value(status, 3) === 2n,
        statusMessage: words(status, 2),
      }
    })
  })
}

function attributesIn(message: Buffer, field: number): Record<string, unknown> {
  const pairs = messages(message, field).map((pair) => {
    const [any = Buffer.alloc(0)] = messages(pair, 2)
    const [[number, content] = []] = fieldsIn(any)
    return [words(pair, 1), number === 1 ? String(content) : Number(content)] as const
  })
  return Object.fromEntries(pairs)
}

type Field = readonly [number: number, content: Buffer | bigint]

function fieldsIn(message: Buffer): Field[] {
  const fields: Field[] = []
  let place = 0
  const varint = () => {
    let result = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = message.readUInt8(place++)
      result |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return result
    }
  }
  const take = (length: number) => message.subarray(place, (place += length))
  while (place < message.length) {
    const tag = Number(varint())
    const number = tag >> 3
    if ((tag & 7) === 0) fields.push([number, varint()])
    else fields.push([number, take({ 1: 8, 5: 4 }[tag & 7] ?? Number(varint()))])
  }
  return fields
}

function messages(message: Buffer, field: number): Buffer[] {
  return fieldsIn(message).flatMap(([number, content]) =>
    number === field && Buffer.isBuffer(content) ? [content] : [],
  )
}

function value(message: Buffer, field: number): bigint {
  const content = fieldsIn(message).find(([number]) => number === field)?.[1]
  return typeof content === 'bigint' ? content : 0n
}

function words(message: Buffer, field: number): string {
  return (messages(message, field)[0] ?? Buffer.alloc(0)).toString()
}

function hex(message: Buffer, field: number): string {
  return (messages(message, field)[0] ?? Buffer.alloc(0)).toString('hex')
}

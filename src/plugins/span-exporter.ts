import { type Attributes, type SpanContext, SpanStatusCode } from '@opentelemetry/api'
import { type ExportResult, ExportResultCode } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import type { ReadableSpan, SpanExporter as Exporter } from '@opentelemetry/sdk-trace'
import type { FastifyBaseLogger } from 'fastify'
import type { Config } from '#src/config.ts'

/** Spans that wait for a delivery; what ends while there are as many is dropped. */
export const queueSize = 2048
/** Spans of one delivery; deliveries go one after the other. */
export const batchSize = 512
/** One delivery, with its repetitions. */
const timeoutMillis = 3000
/** All that leaves; a path, a query, an address or the message of an error could hold a secret or a name. */
const exported = [
  'http.request.method',
  'http.response.status_code',
  'http.route',
  'db.system.name',
  'db.operation.name',
  'db.query.summary',
  'db.response.status_code',
  'error.type',
]

/** Delivers spans without what could be secret; says once that the collector is away or too slow, and once that it is back. */
export class SpanExporter implements Exporter {
  readonly #delivery: OTLPTraceExporter
  readonly #log: FastifyBaseLogger
  #collector: 'well' | 'slow' | 'away' = 'well'
  #waiting = 0
  /** Since the collector was last well. */
  #dropped = 0

  constructor({ endpoint, headers }: Config['traces'] & { readonly endpoint: string }, log: FastifyBaseLogger) {
    this.#log = log
    const url = `${endpoint.replace(/\/$/, '')}/v1/traces`
    this.#delivery = new OTLPTraceExporter({ url, headers: { ...headers }, timeoutMillis })
  }

  /** Whether there is room for one more span, which then waits for `export`. */
  admits(): boolean {
    if (this.#waiting < queueSize) {
      this.#waiting++
      return true
    }
    this.#dropped++
    if (this.#collector === 'well') {
      this.#collector = 'slow'
      this.#log.warn('the collector takes traces too slowly; those that find no room are dropped')
    }
    return false
  }

  export(spans: ReadableSpan[], done: (result: ExportResult) => void): void {
    this.#waiting -= spans.length
    this.#delivery.export(spans.map(withoutSecrets), (result) => {
      if (result.code === ExportResultCode.SUCCESS) this.#tellOfSuccess()
      else this.#tellOfFailure(spans.length, result.error)
      // After a failure the library would deliver several batches at once.
      done({ code: ExportResultCode.SUCCESS })
    })
  }

  forceFlush(): Promise<void> {
    return this.#delivery.forceFlush()
  }

  shutdown(): Promise<void> {
    return this.#delivery.shutdown()
  }

  #tellOfSuccess(): void {
    const isBehind = this.#collector === 'slow' && this.#waiting >= batchSize
    if (this.#collector === 'well' || isBehind) return
    this.#log.info({ dropped: this.#dropped }, 'the collector takes traces again')
    this.#collector = 'well'
    this.#dropped = 0
  }

  #tellOfFailure(dropped: number, error: Error | undefined): void {
    this.#dropped += dropped
    if (this.#collector === 'away') return
    this.#collector = 'away'
    // Of the system, or the status of the answer; the message could hold what was answered.
    const code = error !== undefined && 'code' in error ? error.code : error?.name
    this.#log.warn({ code }, 'the collector takes no traces; they are dropped until it does')
  }
}

/** The span with the attributes that may leave. An answer of 4xx is no error of the server (semantic conventions of HTTP). */
function withoutSecrets(span: ReadableSpan): ReadableSpan {
  const attributes: Attributes = {}
  for (const name of exported) if (span.attributes[name] !== undefined) attributes[name] = span.attributes[name]
  const status = attributes['http.response.status_code']
  const isError = typeof status === 'number' ? status >= 500 : span.status.code === SpanStatusCode.ERROR
  if (typeof status === 'number' && isError) attributes['error.type'] = String(status)
  const { name, kind, parentSpanContext, startTime, endTime, duration, ended, links, resource } = span
  const context = withoutState(span.spanContext())
  // A plain object: one that inherits from the span takes three times as long to serialize.
  return {
    name,
    kind,
    ...(parentSpanContext && { parentSpanContext: withoutState(parentSpanContext) }),
    startTime,
    endTime,
    duration,
    ended,
    links: links.map(({ context }) => ({ context: withoutState(context) })),
    resource,
    spanContext: () => context,
    instrumentationScope: span.instrumentationScope,
    attributes,
    events: [],
    status: { code: isError ? SpanStatusCode.ERROR : SpanStatusCode.UNSET },
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  }
}

/** The `tracestate` of the caller is text of a stranger. */
function withoutState({ traceId, spanId, traceFlags }: SpanContext): SpanContext {
  return { traceId, spanId, traceFlags }
}

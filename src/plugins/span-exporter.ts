import { type Attributes, type SpanContext, SpanStatusCode } from '@opentelemetry/api'
import { type ExportResult, ExportResultCode } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import type { ReadableSpan, SpanExporter as Exporter } from '@opentelemetry/sdk-trace'
import type { FastifyBaseLogger } from 'fastify'
import type { Config } from '#src/config.ts'

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

/** Delivers spans without what could be secret; says once that the collector is away, and once that it is back. */
export class SpanExporter implements Exporter {
  readonly #delivery: OTLPTraceExporter
  readonly #log: FastifyBaseLogger
  #isAway = false

  constructor({ endpoint, headers }: Config['traces'] & { readonly endpoint: string }, log: FastifyBaseLogger) {
    this.#log = log
    const url = `${endpoint.replace(/\/$/, '')}/v1/traces`
    this.#delivery = new OTLPTraceExporter({ url, headers: { ...headers }, timeoutMillis })
  }

  export(spans: ReadableSpan[], done: (result: ExportResult) => void): void {
    this.#delivery.export(spans.map(withoutSecrets), (result) => {
      this.#tell(result)
      done(result)
    })
  }

  forceFlush(): Promise<void> {
    return this.#delivery.forceFlush()
  }

  shutdown(): Promise<void> {
    return this.#delivery.shutdown()
  }

  #tell({ code, error }: ExportResult): void {
    const isAway = code !== ExportResultCode.SUCCESS
    if (isAway === this.#isAway) return
    this.#isAway = isAway
    // Of the system, or the status of the answer; the message could hold what was answered.
    const reason = error !== undefined && 'code' in error ? error.code : error?.name
    if (isAway) this.#log.warn({ code: reason }, 'the collector takes no traces; they are dropped until it does')
    else this.#log.info('the collector takes traces again')
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

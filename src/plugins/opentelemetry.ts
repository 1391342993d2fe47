import { randomUUID } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import { FastifyOtelInstrumentation } from '@fastify/otel'
import {
  type Attributes,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { AlwaysOnSampler, ParentBasedSampler, TraceIdRatioBasedSampler, TracerProvider } from '@opentelemetry/sdk-trace'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Config } from '#src/config.ts'
import type { Budget } from '#src/db/budget.ts'
import type { Follow } from '#src/db/database.ts'
import { codeOf } from '#src/db/faults.ts'
import packageJson from '../../package.json' with { type: 'json' }
import { SpanExporter } from './span-exporter.ts'
import { SpanQueue } from './span-queue.ts'
import { statementNames } from './statement-names.ts'
import type { Traces } from './traces.ts'

type TraceOptions = Config['traces'] & { readonly endpoint: string }

/** For what is left when the service closes; a collector that does not answer holds up nobody longer. */
const lastFlushMs = 1000
/** Requests of monitors: they would outweigh everything on a quiet service. */
const untraced = new Set(['/health', '/ready', '/metrics'])

/** Begins a trace, or goes on with the caller's (W3C Trace Context), for every request on a route that comes after. */
export async function traceRequests(app: FastifyInstance, options: TraceOptions): Promise<Traces> {
  const provider = new TracerProvider({
    resource: resourceFromAttributes({
      'service.name': options.serviceName,
      'service.version': packageJson.version,
      'service.instance.id': randomUUID(),
    }),
    sampler: samplerOf(options),
    spanProcessors: [new SpanQueue(new SpanExporter(options, app.log))],
  })
  app.addHook('onClose', async () => {
    await Promise.race([provider.shutdown().catch(() => {}), setTimeout(lastFlushMs, undefined, { ref: false })])
  })
  propagation.setGlobalPropagator(new W3CTraceContextPropagator())

  const instrumentation = new FastifyOtelInstrumentation({
    instrumentHooks: false,
    instrumentHandler: false,
    recordExceptions: false,
    ignorePaths: ({ url }) => untraced.has(url.split('?', 1)[0] ?? ''),
    requestHook: nameRequest,
  })
  instrumentation.setTracerProvider(provider)
  await app.register(instrumentation.plugin())
  return {
    join: (request, budget) => {
      const { span } = request.opentelemetry()
      if (span?.isRecording()) budget.trace = span
    },
    follow: await statementFollower(provider),
  }
}

function samplerOf({ sampler, share }: TraceOptions) {
  const root = sampler.endsWith('always_on') ? new AlwaysOnSampler() : new TraceIdRatioBasedSampler(share)
  return sampler.startsWith('parentbased_') ? new ParentBasedSampler({ root }) : root
}

function nameRequest(span: Span, request: FastifyRequest): void {
  const { method, routeOptions } = request
  span.updateName(routeOptions.url === undefined ? method : `${method} ${routeOptions.url}`)
  const { traceId, spanId } = span.spanContext()
  request.log = request.log.child({ trace_id: traceId, span_id: spanId })
}

/** Tells of each attempt of a statement in the trace of its request; of one that several share in the trace of each. */
async function statementFollower(provider: TracerProvider): Promise<Follow> {
  const tracer = provider.getTracer('latchkey', packageJson.version)
  const names = await statementNames()
  return async (query, budget, attempt) => {
    const parents = parentsOf(budget)
    if (parents.length === 0) return attempt()
    const name = names.get(query) ?? 'unnamed'
    const attributes = { 'db.system.name': 'postgresql', 'db.operation.name': name, 'db.query.summary': name }
    const spans: Span[] = []
    for (const parent of parents) {
      // It was sent once: in the trace of the first, to which the others refer.
      const links = spans.slice(0, 1).map((first) => ({ context: first.spanContext() }))
      const options = { kind: SpanKind.CLIENT, attributes, links }
      spans.push(tracer.startSpan(name, options, trace.setSpan(ROOT_CONTEXT, parent)))
    }
    try {
      return await attempt()
    } catch (error) {
      for (const span of spans) span.setStatus({ code: SpanStatusCode.ERROR }).setAttributes(faultOf(error))
      throw error
    } finally {
      for (const span of spans) span.end()
    }
  }
}

/** The spans of the requests that pay, as far as they are traced. */
function parentsOf({ trace, sharers }: Budget): Span[] {
  const traces = sharers.length === 0 ? [trace] : sharers.map(({ payer }) => payer?.trace)
  return traces.filter((one) => one !== undefined) as Span[]
}

function faultOf(error: unknown): Attributes {
  const type = codeOf(error) || '_OTHER'
  const isAnswer = error instanceof Error && error.name === 'PostgresError'
  return isAnswer ? { 'error.type': type, 'db.response.status_code': type } : { 'error.type': type }
}

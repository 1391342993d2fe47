import { BatchSpanProcessor, type ReadableSpan } from '@opentelemetry/sdk-trace'
import { batchSize, queueSize, type SpanExporter } from './span-exporter.ts'

const deliverEveryMs = 2000

/** Spans that wait for a delivery, as many as the exporter admits; the library would drop the others and tell nobody. */
export class SpanQueue extends BatchSpanProcessor {
  readonly #exporter: SpanExporter

  constructor(exporter: SpanExporter) {
    const sizes = { maxQueueSize: queueSize, maxExportBatchSize: batchSize }
    super({ exporter, ...sizes, scheduledDelayMillis: deliverEveryMs })
    this.#exporter = exporter
  }

  override onEnd(span: ReadableSpan): void {
    if (this.#exporter.admits()) super.onEnd(span)
  }
}

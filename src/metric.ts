interface Named {
  readonly name: string
  readonly help: string
}

/** Counts, apart for each value of its label if it has one. */
export interface CounterMetric<V extends string = string> extends Named {
  readonly kind: 'counter'
  readonly label: string | undefined
  readonly values: readonly V[]
  /** Its series come with what is counted first; those of others exist from the start, so that they can be alerted on. */
  readonly late: boolean
}

interface GaugeMetric extends Named {
  readonly kind: 'gauge'
}

/** Seconds, in buckets. */
interface HistogramMetric extends Named {
  readonly kind: 'histogram'
}

export type Metric = CounterMetric | GaugeMetric | HistogramMetric

/** What a use case calls to count; a counter with a label takes one of its values. */
export type Measure<M extends Metric> =
  M extends CounterMetric<infer V>
    ? [V] extends [never]
      ? () => void
      : (value: V, count?: number) => void
    : (value: number) => void

/** Declares a counter. */
export function counter(name: string, help: string): CounterMetric<never>
export function counter<const V extends string>(
  name: string,
  help: string,
  label: string,
  values: readonly V[],
  about?: { readonly late: true },
): CounterMetric<V>
export function counter(
  name: string,
  help: string,
  label?: string,
  values: readonly string[] = [],
  { late = false } = {},
) {
  return { kind: 'counter', name, help, label, values, late }
}

/** Declares a gauge. */
export function gauge(name: string, help: string): GaugeMetric {
  return { kind: 'gauge', name, help }
}

/** Declares a histogram of seconds. */
export function histogram(name: string, help: string): HistogramMetric {
  return { kind: 'histogram', name, help }
}

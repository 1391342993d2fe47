interface Named {
  readonly name: string
  readonly help: string
}

/** Counts, apart for each value of its label if it has one. */
export interface CounterMetric<V extends string = string> extends Named {
  readonly kind: 'counter'
  readonly label: string | undefined
  /** There is a series for each from the start, so that it can be alerted on. */
  readonly values: readonly V[]
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
): CounterMetric<V>
export function counter(name: string, help: string, label?: string, values: readonly string[] = []) {
  return { kind: 'counter', name, help, label, values }
}

/** Declares a gauge. */
export function gauge(name: string, help: string): GaugeMetric {
  return { kind: 'gauge', name, help }
}

/** Declares a histogram of seconds. */
export function histogram(name: string, help: string): HistogramMetric {
  return { kind: 'histogram', name, help }
}

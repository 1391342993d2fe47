import type { Load } from './load.ts'

/** A figure beside its limit. */
export interface Row {
  readonly name: string
  /** Per second, or the unit that the name says. */
  readonly value: number
  readonly limit: number
  readonly ratio: number
  /** What the ratio has to reach or, with `atMost`, may not pass. */
  readonly target?: number
  readonly atMost?: boolean
  /** Milliseconds. */
  readonly p50?: number
  readonly p99?: number
  readonly failed?: number
}

/** The median of three rounds; each pairs the service with the limit that was measured right after it. */
export function rowOf(name: string, rounds: ReadonlyArray<{ service: Load; limit: number }>, target?: number): Row {
  const of = (read: (round: { service: Load; limit: number }) => number) => median(rounds.map(read))
  return {
    name,
    value: of(({ service }) => service.perSecond),
    limit: of(({ limit }) => limit),
    ratio: of(({ service, limit }) => service.perSecond / limit),
    ...(target === undefined ? {} : { target }),
    p50: of(({ service }) => service.p50),
    p99: of(({ service }) => service.p99),
    failed: rounds.reduce((sum, { service }) => sum + service.failed, 0),
  }
}

export function isMissed({ ratio, target, atMost = false, failed = 0 }: Row): boolean {
  return failed > 0 || (target !== undefined && (atMost ? !(ratio <= target) : !(ratio >= target)))
}

/** Prints the table for people and one JSON line for programs. */
export function report(rows: readonly Row[], facts: Record<string, unknown>): void {
  const head = ['', 'value', 'limit', 'ratio', 'target', 'p50 ms', 'p99 ms', '']
  const lines = rows.map((row) => [
    row.name,
    shown(row.value),
    shown(row.limit),
    shown(row.ratio, 2),
    row.target === undefined ? '' : `${row.atMost ? '<=' : '>='} ${shown(row.target, 2)}`,
    shown(row.p50, 1),
    shown(row.p99, 1),
    row.failed ? `missed: ${row.failed} answers were not 200` : isMissed(row) ? 'missed' : '',
  ])
  const widths = head.map((_, i) => Math.max(...[head, ...lines].map((line) => line[i]?.length ?? 0)))
  const aligned = (cell: string, i: number) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))
  for (const line of [head, ...lines]) console.log(line.map(aligned).join('  ').trimEnd())
  for (const [name, value] of Object.entries(facts)) console.log(`${name}: ${JSON.stringify(value, rounded)}`)
  console.log()
  console.log(JSON.stringify({ ...facts, rows: rows.map((row) => ({ ...row, missed: isMissed(row) })) }, rounded))
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN
}

function shown(value: number | undefined, digits?: number): string {
  if (value === undefined) return ''
  return value.toFixed(digits ?? (value < 100 ? 1 : 0))
}

function rounded(_key: string, value: unknown): unknown {
  return typeof value === 'number' ? Number(value.toPrecision(4)) : value
}

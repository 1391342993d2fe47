import { readFileSync } from 'node:fs'
import { join } from 'node:path'

interface Place {
  readonly x: number
  readonly y: number
  readonly w: number
  readonly h: number
}

interface Target {
  readonly expr: string
  readonly legendFormat: string
}

export interface Panel {
  readonly type: 'row' | 'stat' | 'timeseries'
  readonly title: string
  readonly gridPos: Place
  readonly targets?: readonly Target[]
  readonly fieldConfig?: {
    readonly defaults: {
      readonly unit: string
      readonly custom?: { readonly stacking: { readonly mode: 'normal' | 'none' } }
      readonly thresholds?: { readonly steps: readonly { readonly color: string; readonly value: number | null }[] }
    }
  }
}

interface Series {
  readonly metric: Record<string, string>
  readonly values: readonly (readonly [number, string])[]
}

interface Line {
  readonly name: string
  /** NaN where there is none. */
  readonly points: readonly number[]
}

/** Asks the API of a Prometheus. */
export type Ask = <Data>(path: string, parameters?: Record<string, string>) => Promise<Data>

export interface Range {
  /** Unix time in seconds. */
  readonly start: number
  readonly end: number
}

const steps = 150
const mebibyte = 2 ** 20
/** Pixels: a column and a row of Grafana's grid, and the gap between two panels. */
const [column, row, gap] = [56, 25, 8]
const colours = ['#3274d9', '#e0832f', '#37872d', '#c4162a', '#8f3bb8', '#0f9b8e', '#b8860b', '#6e6e6e', '#d44a9c']

/** The panels of the dashboard, as Grafana gets them. */
export const panels = (
  JSON.parse(readFileSync(join(import.meta.dirname, '../../deploy/grafana/latchkey.json'), 'utf8')) as {
    readonly panels: readonly Panel[]
  }
).panels

/** The query of a target with the interval that Grafana would fill in. */
export const filledIn = ({ expr }: Target) => expr.replaceAll('$__rate_interval', '30s')

/** A page with every panel of the dashboard, drawn from the answers of a Prometheus to its queries. */
export async function drawDashboard(ask: Ask, range: Range): Promise<string> {
  const drawn = await Promise.all(panels.map(async (panel) => draw(panel, await linesOf(panel, ask, range), range)))
  const height = Math.max(...panels.map(({ gridPos }) => (gridPos.y + gridPos.h) * row))
  return `<!doctype html><meta charset="utf-8"><title>Latchkey</title><style>
    body { margin: 0; font: 12px 'DejaVu Sans', sans-serif; color: #24292e; background: #f4f5f5; position: relative; width: ${24 * column + gap}px; height: ${height + gap}px }
    section { position: absolute; box-sizing: border-box; background: #fff; border: 1px solid #e0e2e4; border-radius: 3px; padding: 6px 8px; overflow: hidden }
    h2 { position: absolute; margin: 0; padding: 6px 2px; font-size: 14px } h3 { margin: 0 0 2px; font-size: 12px }
    text { font: 10px 'DejaVu Sans', sans-serif; fill: #6a7078 } b { font-size: 34px; display: block; text-align: center; margin-top: 26px }
    p { margin: 0; line-height: 15px; font-size: 10.5px } i { display: inline-block; width: 12px; height: 3px; margin: 0 4px 3px 0 } span { margin-right: 12px; white-space: nowrap } .nothing { opacity: 0.4 }
  </style>${drawn.join('\n')}`
}

async function linesOf({ targets = [] }: Panel, ask: Ask, { start, end }: Range): Promise<Line[]> {
  const step = (end - start) / steps
  const answers = await Promise.all(
    targets.map(async (target) => {
      const parameters = { query: filledIn(target), start: String(start), end: String(end), step: String(step) }
      const { result } = await ask<{ result: Series[] }>('query_range', parameters)
      return result.map(({ metric, values }) => {
        const known = new Map(values.map(([time, value]) => [Math.round((time - start) / step), Number(value)]))
        const points = Array.from({ length: steps + 1 }, (_, index) => known.get(index) ?? NaN)
        return {
          name: target.legendFormat.replace(/\{\{(\w+)\}\}/g, (_, label: string) => metric[label] ?? ''),
          points,
        }
      })
    }),
  )
  return answers.flat()
}

function draw(panel: Panel, lines: readonly Line[], range: Range): string {
  const { x, y, w, h } = panel.gridPos
  const place = `left:${x * column + gap}px;top:${y * row + gap / 2}px`
  if (panel.type === 'row') return `<h2 style="${place}">${escaped(panel.title)}</h2>`
  const [width, height] = [w * column - gap, h * row - gap]
  const inside =
    panel.type === 'stat' ? drawNumber(panel, lines) : drawLines(panel, lines, range, width - 18, height - 32)
  return `<section style="${place};width:${width}px;height:${height}px"><h3>${escaped(panel.title)}</h3>${inside}</section>`
}

function drawNumber({ fieldConfig }: Panel, lines: readonly Line[]): string {
  const value = lines[0]?.points.findLast((point) => !Number.isNaN(point))
  if (value === undefined) return '<p>No data</p>'
  const { unit = 'short', thresholds } = fieldConfig?.defaults ?? {}
  const colour = thresholds?.steps.findLast((step) => value >= (step.value ?? -Infinity))?.color ?? 'black'
  return `<b style="color:${colour === 'green' ? colours[2] : colour}">${told(value, unit)}</b>`
}

function drawLines(panel: Panel, lines: readonly Line[], range: Range, width: number, height: number): string {
  if (lines.every(({ points }) => points.every(Number.isNaN))) return '<p>No data</p>'
  const { unit = 'short', custom } = panel.fieldConfig?.defaults ?? {}
  const stacked = custom?.stacking.mode === 'normal'
  const tops = stacked ? stack(lines) : lines.map(({ points }) => points)
  const highest = niceAbove(Math.max(...tops.flat().filter((point) => !Number.isNaN(point))), unit)
  const legend = lines.map((line, index) => {
    const mark = `<i style="background:${colourOf(index)}"></i>`
    return `<span${isNothing(line) ? ' class="nothing"' : ''}>${mark}${escaped(line.name)}</span>`
  })
  const named = lines.some(({ name }) => name !== '')
  // As many rows as the names need, at about 7 pixels a letter.
  const letters = lines.reduce((sum, { name }) => sum + name.length * 6.3 + 30, 0)
  const below = named ? Math.ceil(letters / (width - 40)) * 15 : 0
  const [left, bottom] = [54, height - below - 16]
  const at = (index: number, value: number) =>
    `${(left + (index / steps) * (width - left)).toFixed(1)},${(bottom - (value / highest) * (bottom - 6)).toFixed(1)}`
  const grid = [0, 0.5, 1].map((share) => {
    const height = bottom - share * (bottom - 6)
    return `<path d="M${left},${height}H${width}" stroke="#e6e8ea"/><text x="${left - 5}" y="${height + 3}" text-anchor="end">${told(share * highest, unit)}</text>`
  })
  const times = [0, 0.5, 1].map((share) => {
    const anchor = ['start', 'middle', 'end'][share * 2]
    const time = new Date((range.start + share * (range.end - range.start)) * 1000).toISOString().slice(11, 19)
    return `<text x="${left + share * (width - left)}" y="${bottom + 13}" text-anchor="${anchor}">${time}</text>`
  })
  const drawn = tops.flatMap((points, index) => {
    if (isNothing(lines[index])) return []
    const parts = points
      .map((value, place) => (Number.isNaN(value) ? '' : at(place, value)))
      .join(' ')
      .split(/ {2,}/)
    return parts.filter(Boolean).map((part) => {
      const line = `<polyline points="${part}" fill="none" stroke="${colourOf(index)}" stroke-width="1.5"/>`
      const corners = part
        .trim()
        .split(' ')
        .map((point) => point.split(',')[0])
      const area = `${corners[0]},${bottom} ${part} ${corners.at(-1)},${bottom}`
      return stacked ? `<polygon points="${area}" fill="${pale(index)}"/>${line}` : line
    })
  })
  // The lowest of a stack covers the others.
  if (stacked) drawn.reverse()
  return `<svg width="${width}" height="${bottom + 16}">${[...grid, ...times, ...drawn].join('')}</svg>${named ? `<p>${legend.join('')}</p>` : ''}`
}

/** Each line upon the sum of those before it. */
function stack(lines: readonly Line[]): number[][] {
  const sums: number[] = Array.from({ length: steps + 1 }, () => 0)
  return lines.map(({ points }) =>
    points.map((point, index) => {
      if (Number.isNaN(point)) return NaN
      return (sums[index] = (sums[index] ?? 0) + point)
    }),
  )
}

/** A counter that has not moved; its name is pale, and no line of it hides another. */
const isNothing = (line: Line | undefined) => line?.points.every((point) => Number.isNaN(point) || point === 0) ?? true

const pale = (index: number) => `color-mix(in srgb, ${colourOf(index)} 22%, white)`
const colourOf = (index: number) => colours[index % colours.length] ?? 'black'

/** The next of 1, 2, 5, 10 and so on; of bytes and long times, as many mebibytes and minutes. */
function niceAbove(value: number, unit: string): number {
  if (!(value > 0)) return 1
  if (unit === 's' && value > 120) return niceAbove(value / 60, 'short') * 60
  if (unit === 'bytes') return niceAbove(value / mebibyte, 'short') * mebibyte
  const power = 10 ** Math.floor(Math.log10(value))
  return ([1, 2, 5, 10].find((factor) => factor * power >= value * 0.999) ?? 10) * power
}

/** A value in a unit of Grafana. */
function told(value: number, unit: string): string {
  const short = (number: number) => String(Number(number.toPrecision(3)))
  if (unit === 'percentunit') return `${short(value * 100)} %`
  if (unit === 'bytes') return `${short(value / mebibyte)} MiB`
  if (unit === 'reqps' || unit === 'ops') return `${short(value)}/s`
  if (unit !== 's') return short(value)
  if (value >= 120) return `${short(value / 60)} min`
  return value > 0 && value < 1 ? `${short(value * 1000)} ms` : `${short(value)} s`
}

const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')

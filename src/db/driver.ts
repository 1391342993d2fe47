import type postgres from 'postgres'

export type DriverOptions = NonNullable<Parameters<typeof postgres>[1]>

type Item = string | number | null

/** Arrays of text, numbers and UUIDs (PostgreSQL §8.15.6); declared here, they need no round trip to ask for their types. */
export const plainArray: postgres.PostgresType<readonly Item[]> = {
  to: 1009,
  from: [1007, 1009, 2951],
  // In quotes, or the word null would be no word.
  serialize: (items: readonly Item[]) => `{${items.map((item) => (item === null ? 'null' : quoted(item))).join(',')}}`,
  parse: (text: string) =>
    Array.from(text.matchAll(/"((?:[^"\\]|\\.)*)"|[^{},]+/gs), ([item, escaped]) =>
      escaped === undefined ? (item === 'NULL' ? null : item) : escaped.replaceAll(/\\(.)/gs, '$1'),
    ),
}

function quoted(item: string | number): string {
  return `"${String(item).replaceAll(/["\\]/g, '\\$&')}"`
}

/** Reads libpq's `?host=/folder` of a Unix socket, which postgres.js takes as an option only. */
export function addressed(text: string, options: DriverOptions): [string, DriverOptions] {
  const url = new URL(text)
  const host = url.searchParams.get('host')
  url.searchParams.delete('host')
  return [url.href, host === null ? options : { ...options, host }]
}

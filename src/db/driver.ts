import type postgres from 'postgres'

export type DriverOptions = NonNullable<Parameters<typeof postgres>[1]>

type Item = string | number | null

/**
 * The types of parameters and columns that are not text. The driver writes the parameters of a statement a second time,
 * over what it has written, when the server has lost or changed its plan: so what is text already stays as it is, or a
 * digest would be that of no token and `true` would be `false`.
 */
export const types = {
  /** Arrays of text, numbers and UUIDs (PostgreSQL §8.15.6); declared here, they need no round trip to ask for their types. */
  plainArray: type(1009, [1007, 1009, 2951], arrayText, itemsOf),
  boolean: type(
    16,
    [16],
    (value: boolean) => (value ? 't' : 'f'),
    (text) => text === 't',
  ),
  bytea: type(
    17,
    [17],
    (bytes: Uint8Array) => `\\x${Buffer.from(bytes).toString('hex')}`,
    (text) => Buffer.from(text.slice(2), 'hex'),
  ),
  json: type(114, [114, 3802], JSON.stringify, (text): unknown => JSON.parse(text)),
}

function type<In, Out>(to: number, from: number[], write: (value: In) => string, parse: (text: string) => Out) {
  return { to, from, serialize: (value: In | string) => (typeof value === 'string' ? value : write(value)), parse }
}

function arrayText(items: readonly Item[]): string {
  // In quotes, or the word null would be no word.
  return `{${items.map((item) => (item === null ? 'null' : `"${String(item).replaceAll(/["\\]/g, '\\$&')}"`)).join(',')}}`
}

function itemsOf(text: string): (string | null)[] {
  return Array.from(text.matchAll(/"((?:[^"\\]|\\.)*)"|[^{},]+/gs), ([item, escaped]) => {
    if (escaped === undefined) return item === 'NULL' ? null : item
    return escaped.replaceAll(/\\(.)/gs, '$1')
  })
}

/** Reads libpq's `?host=/folder` of a Unix socket, which postgres.js takes as an option only. */
export function addressed(text: string, options: DriverOptions): [string, DriverOptions] {
  const url = new URL(text)
  const host = url.searchParams.get('host')
  url.searchParams.delete('host')
  return [url.href, host === null ? options : { ...options, host }]
}

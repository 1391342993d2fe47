import type postgres from 'postgres'
import { urlsOfHosts } from '#src/urls.ts'

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

/** What the driver is called with, for one host. */
export type Address = [url: string, options: DriverOptions]

/** Where the servers are, in the order of the URL, and whether only the primary among them will do. */
export interface Addresses {
  readonly list: readonly Address[]
  readonly primary: boolean
}

/** Reads several hosts, and libpq's `?host=/folder` of a Unix socket and `?target_session_attrs`, which are not left to the driver. */
export function addressesOf(text: string, options: DriverOptions): Addresses {
  const urls = urlsOfHosts(text).map((each) => new URL(each))
  const primary = urls.length > 1 || urls.some((url) => url.searchParams.has('target_session_attrs'))
  const list = urls.map((url): Address => {
    const host = url.searchParams.get('host')
    url.searchParams.delete('host')
    url.searchParams.delete('target_session_attrs')
    return [url.href, host === null ? options : { ...options, host }]
  })
  return { list, primary }
}

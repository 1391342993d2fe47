import postgres from 'postgres'
import { openAny } from './connects.ts'
import { type Address, type Addresses, addressesOf, type DriverOptions } from './driver.ts'
import { PatientStreams, type Place } from './socket.ts'

/** Milliseconds to find the primary at the start. */
const findMs = 6000

/** A connection for work at the start, alone: it may hold locks and open transactions. Ends only when it is told to. */
export function connectAlone(url: string, extra: DriverOptions = {}): postgres.Sql {
  const [[href, own]] = addressesOf(url, extra).list as [Address]
  const addresses = addressesOf(url, { fetch_types: false })
  const streams = new PatientStreams(addresses.primary ? (place) => findPrimary(addresses, place) : undefined)
  const connection = postgres(href, {
    max: 1,
    onnotice: () => {},
    connect_timeout: 10,
    fetch_types: false,
    socket: streams.open,
    ...own,
  } as DriverOptions)
  const end = connection.end.bind(connection)
  // The driver says goodbye and waits for the other side, which may be gone.
  return Object.assign(connection, { end: (how?: { timeout?: number }) => end(how).finally(() => streams.close()) })
}

/** The driver itself would stay with a host that refuses a log-in, and with one that says nothing. */
async function findPrimary(addresses: Addresses, first: Place): Promise<Place> {
  const { connection, place } = await openAny(addresses, findMs, () => {})
  await connection.close(1)
  if (place === 0) return first
  const { hostname, port } = new URL(addresses.list[place]?.[0] ?? '')
  return { host: [hostname], port: [Number(port || 5432)] }
}

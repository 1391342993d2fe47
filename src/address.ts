import { BlockList, isIP } from 'node:net'
import { normalizeIP } from '@fastify/rate-limit'
import type { FastifyRequest } from 'fastify'

declare module 'fastify' {
  interface FastifyRequest {
    /** The user's address as an authenticated backend says it; see plugins/address.ts. */
    userAddress: string | null
  }
}

/** The address that a request comes from, for limits, log and audit trail; what is no address is the peer's. */
export function addressOf(request: FastifyRequest): string {
  return request.userAddress ?? readAddress(request.ip) ?? readAddress(request.socket.remoteAddress) ?? 'unknown'
}

/** What an address counts as: an IPv6 one as its /64, because a single host has all of that. */
export function networkOf(address: string): string {
  return normalizeIP(address, 64)
}

/** An address in its one spelling, without the port that some gateways write after it; `undefined` if it is none. */
export function readAddress(text = ''): string | undefined {
  // Every request asks, mostly for one of a few proxies.
  if (spellings.has(text)) return spellings.get(text)
  const address = spell(text)
  if (spellings.size >= maxSpellings) spellings.clear()
  if (text.length <= longestAddress) spellings.set(text, address)
  return address
}

const maxSpellings = 1000
const longestAddress = 60
const spellings = new Map<string, string | undefined>()

function spell(text: string): string | undefined {
  const [, bracketed, dotted] = /^(?:\[([^\]]+)\](?::\d+)?|([\d.]+):\d+)$/.exec(text.trim()) ?? []
  const address = bracketed ?? dotted ?? text.trim()
  return isIP(address) === 0 ? undefined : normalizeIP(address, 128)
}

/** Tells whether an address, with or without a port, lies within a list of addresses and networks in CIDR notation. */
export function withinNetworks(networks: readonly string[]): (address: string | undefined) => boolean {
  const list = new BlockList()
  for (const network of networks) {
    const [address = '', bits = isIP(address) === 6 ? '128' : '32'] = network.split('/')
    list.addSubnet(address, Number(bits), familyOf(address))
  }
  return (text) => {
    const address = readAddress(text)
    return address !== undefined && list.check(address, familyOf(address))
  }
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4'
}

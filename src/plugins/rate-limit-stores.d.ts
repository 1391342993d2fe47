/** The stores of @fastify/rate-limit, which it ships without types. */
declare module '@fastify/rate-limit/store/*.js' {
  type Done = (error: Error | null, result?: { current: number; ttl: number }) => void
  export default class Store {
    constructor(continueExceeding: boolean, exponentialBackoff: boolean, cacheOrRedis: unknown, nameSpace?: string)
    incr(key: string, done: Done, timeWindow: number, max: number): void
  }
}

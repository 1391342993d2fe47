import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyInstance {
    /** Lets `/ready` fail from now on, before the service closes. */
    startDraining: () => void
    isDraining: () => boolean
  }
}

/** Knows that the service is about to close, and tells clients by closing their connections. */
export default fp(
  async (app) => {
    let draining = false
    app.decorate('startDraining', () => {
      draining = true
    })
    app.decorate('isDraining', () => draining)
    // Or a client would keep its connection, and with it the process, alive.
    app.addHook('onSend', (_request, reply, payload, done) => {
      if (draining) reply.header('connection', 'close')
      done(null, payload)
    })
  },
  { name: 'draining' },
)

import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyInstance {
    /** Lets `/ready` fail from now on, before the service closes. */
    leave: () => void
    isLeaving: () => boolean
  }
}

/** Knows that the service is about to close, and tells clients by closing their connections. */
export default fp(
  async (app) => {
    let leaving = false
    app.decorate('leave', () => {
      leaving = true
    })
    app.decorate('isLeaving', () => leaving)
    // Or a client would keep its connection, and with it the process, alive.
    app.addHook('onSend', (_request, reply, payload, done) => {
      if (leaving) reply.header('connection', 'close')
      done(null, payload)
    })
  },
  { name: 'leaving' },
)

import fastify from 'fastify'
import { Refused, verifyByAsking, verifyByKeys } from './verify.ts'

const { SERVICE_URL = 'http://localhost:8000', API_PORT = '8100', VERIFY } = process.env
const verify = VERIFY === 'validate' ? verifyByAsking(SERVICE_URL) : verifyByKeys(SERVICE_URL, SERVICE_URL)

interface Card {
  readonly id: string
  readonly column: string
  readonly title: string
}

const columns = ['todo', 'doing', 'done']
const mostCards = 200
/** The cards of each user, in order; gone when this process ends. */
const boards = new Map<string, Card[]>()
const title = { type: 'string', minLength: 1, maxLength: 200 }
const column = { enum: columns }

const app = fastify()
app.decorateRequest('user', '')
declare module 'fastify' {
  interface FastifyRequest {
    user: string
  }
}

app.addHook('onRequest', async (request) => {
  const [, token] = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '') ?? []
  if (token === undefined) throw new Refused(401, 'token_missing')
  request.user = await verify(token)
})

app.setErrorHandler<Error & { statusCode?: number }>((error, _request, reply) => {
  if (error instanceof Refused) return reply.code(error.status).send({ code: error.code })
  const status = error.statusCode ?? 500
  return reply.code(status).send({ code: status < 500 ? 'invalid_request' : 'internal_error' })
})

const cardsOf = (user: string) => boards.get(user) ?? []

app.get('/board', async ({ user }) => cardsOf(user))

// The client makes the id, so that a request whose answer was lost can be sent again.
app.put<{ Params: { id: string }; Body: { title: string; column: string; before?: string } }>(
  '/board/cards/:id',
  {
    schema: {
      params: { type: 'object', properties: { id: { type: 'string', format: 'uuid' } } },
      body: {
        type: 'object',
        required: ['title', 'column'],
        properties: { title, column, before: { type: 'string', format: 'uuid' } },
      },
    },
  },
  async ({ user, params, body }, reply) => {
    const others = cardsOf(user).filter(({ id }) => id !== params.id)
    if (others.length >= mostCards) return reply.code(409).send({ code: 'board_full' })
    const place = others.findIndex(({ id }) => id === body.before)
    others.splice(place === -1 ? others.length : place, 0, { id: params.id, title: body.title, column: body.column })
    boards.set(user, others)
    return others
  },
)

app.delete<{ Params: { id: string } }>('/board/cards/:id', async ({ user, params }) => {
  const others = cardsOf(user).filter(({ id }) => id !== params.id)
  boards.set(user, others)
  return others
})

await app.listen({ host: '127.0.0.1', port: Number(API_PORT) })

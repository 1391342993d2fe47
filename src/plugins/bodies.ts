import { isUtf8 } from 'node:buffer'
import { type ParsedUrlQuery, parse as parseQuery } from 'node:querystring'
import formbody from '@fastify/formbody'
import fp from 'fastify-plugin'
import { invalidField, Problem } from '#src/problem.ts'

/** Reads JSON and form bodies in UTF-8 and nothing else; refuses NUL and ill-formed text in every string. */
export default fp(
  async (app) => {
    app.removeAllContentTypeParsers()
    await app.register(formbody, { bodyLimit: 65_536, parser: parseForm })
    const parseJson = app.getDefaultJsonParser('error', 'error')
    app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body: Buffer, done) => {
      if (body.length === 0) return done(null, undefined)
      if (!isUtf8(body)) return done(new Problem('invalid_request', { detail: 'The body is not UTF-8.' }))
      void parseJson(request, body.toString('utf8'), done)
    })

    app.addHook('onRequest', async ({ headers }) => {
      const charset = /;\s*charset\s*=\s*"?([^";\s]+)/i.exec(headers['content-type'] ?? '')?.[1] ?? 'utf-8'
      if (headers['content-encoding'] !== undefined || !/^utf-?8$/i.test(charset))
        throw new Problem('media_type_unsupported')
    })
    app.addHook('preValidation', async ({ body, params, query }) => {
      for (const part of [body, params, query]) requireText(part, '')
    })
  },
  { name: 'bodies', dependencies: ['errors'] },
)

/** Form fields; percent-encoding that is not UTF-8 becomes a lone surrogate, which `requireText` refuses. */
function parseForm(text: string): ParsedUrlQuery {
  const decode = (part: string) => {
    try {
      return decodeURIComponent(part)
    } catch {
      return '\uD800'
    }
  }
  return { ...parseQuery(text, '&', '=', { maxKeys: 100, decodeURIComponent: decode }) }
}

/** Postgres knows no NUL, and every lone surrogate would become the same U+FFFD. */
function requireText(value: unknown, pointer: string): void {
  if (typeof value === 'string') {
    if (value.includes('\0') || !value.isWellFormed())
      throw invalidField(pointer || '/', 'holds a character that is not allowed')
  } else if (typeof value === 'object' && value !== null) {
    for (const [name, item] of Object.entries(value)) {
      requireText(name, pointer)
      requireText(item, `${pointer}/${name}`)
    }
  }
}

import { isUtf8 } from 'node:buffer'
import { type ParsedUrlQuery, parse as parseQuery } from 'node:querystring'
import formbody from '@fastify/formbody'
import fp from 'fastify-plugin'
import { escapePointer, invalidField, Problem } from '#src/problem.ts'

/** Reads JSON and form bodies in UTF-8 and nothing else; refuses NUL and ill-formed text in every string. */
export default fp(
  async (app) => {
    app.removeAllContentTypeParsers()
    await app.register(formbody, { bodyLimit: 65_536, parser: parseFields })
    const parseJson = app.getDefaultJsonParser('error', 'error')
    app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body: Buffer, done) => {
      if (body.length === 0) return done(null, undefined)
      if (!isUtf8(body)) return done(new Problem('invalid_request', { detail: 'The body is not UTF-8.' }))
      void parseJson(request, body.toString('utf8'), done)
    })

    // Hooks of every request call back: a promise each would cost as much as the rest of them.
    app.addHook('onRequest', ({ headers }, _reply, done) => {
      const charset = /;\s*charset\s*=\s*"?([^";\s]+)/i.exec(headers['content-type'] ?? '')?.[1] ?? 'utf-8'
      const isReadable = headers['content-encoding'] === undefined && /^utf-?8$/i.test(charset)
      done(isReadable ? undefined : new Problem('media_type_unsupported'))
    })
    app.addHook('preValidation', ({ body, params, query }, _reply, done) => {
      try {
        for (const part of [body, params, query]) requireText(part, '')
        done()
      } catch (error) {
        done(error as Problem)
      }
    })
  },
  { name: 'bodies', dependencies: ['errors'] },
)

/** The fields of a form or a query, all of them; what is not UTF-8 becomes a lone surrogate, which `requireText` refuses. */
export function parseFields(text: string): ParsedUrlQuery {
  if (text === '') return {}
  const decode = (part: string) => {
    try {
      return decodeURIComponent(part)
    } catch {
      return '\uD800'
    }
  }
  return { ...parseQuery(text.replaceAll('\uFFFD', '\uD800'), '&', '=', { maxKeys: 0, decodeURIComponent: decode }) }
}

/** Postgres knows no NUL, and every lone surrogate would become the same U+FFFD; no field is nested deeply. */
function requireText(value: unknown, pointer: string, depth = 0): void {
  if (typeof value === 'string') {
    if (value.includes('\0') || !value.isWellFormed())
      throw invalidField(pointer, 'holds a character that is not allowed')
  } else if (typeof value === 'object' && value !== null) {
    if (depth > 20) throw new Problem('invalid_request', { detail: 'The body is nested too deeply.' })
    for (const [name, item] of Object.entries(value)) {
      requireText(name, pointer, depth)
      requireText(item, `${pointer}/${escapePointer(name)}`, depth + 1)
    }
  }
}

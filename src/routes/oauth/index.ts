import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { preValidationHookHandler } from 'fastify'
import { Problem } from '#src/problem.ts'
import type { ContractOptions } from '#src/routes/contract.ts'
import oauthIntrospect from './introspect.ts'
import oauthRevoke from './revoke.ts'
import oauthToken from './token.ts'

/** OAuth 2.0 by the book, for a first party: RFC 6749 (password, refresh_token), 7009, 7662. It takes forms only. */
const oauth: FastifyPluginAsyncTypebox<ContractOptions> = async (app, options) => {
  app.removeContentTypeParser('application/json')
  app.addContentTypeParser('application/json', (_request, _body, done) =>
    done(
      new Problem('media_type_unsupported', { detail: 'The body must be a form (application/x-www-form-urlencoded).' }),
    ),
  )
  app.addHook('preValidation', leaveOutEmpty)

  for (const endpoint of [oauthToken, oauthRevoke, oauthIntrospect])
    // The prefix of this plugin is theirs already.
    await app.register(endpoint, { ...options, prefix: '' })
}

/** RFC 6749 §3.2: a parameter without a value counts as left out. */
const leaveOutEmpty: preValidationHookHandler = ({ body }, _reply, done) => {
  for (const [name, value] of Object.entries(body ?? {})) if (value === '') Reflect.deleteProperty(body as object, name)
  done()
}

export default oauth

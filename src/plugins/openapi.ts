import { isDeepStrictEqual } from 'node:util'
import swagger from '@fastify/swagger'
import fp from 'fastify-plugin'
import packageJson from '../../package.json' with { type: 'json' }

const tags = [
  { name: 'login', description: 'Registration, login, refresh and logout.' },
  { name: 'account', description: "The user's own account and sessions." },
  { name: 'administration', description: 'Users and their audit trail, for administrators.' },
  { name: 'oauth', description: 'OAuth 2.0 by the book, for a first party.' },
  { name: 'operation', description: 'For load balancers and monitors.' },
]

/** The OpenAPI document of all routes that are registered after it, as `app.swagger()`. */
export default fp<{ issuer: string }>(
  async (app, { issuer }) => {
    await app.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: {
          title: 'Latchkey',
          description: 'Self-hosted authentication: JWT access tokens and single-use rotating refresh tokens.',
          version: packageJson.version,
          contact: { name: 'Latchkey', url: issuer },
          license: { name: 'MIT', identifier: 'MIT' } as never,
        },
        // Relative, so that the page calls the service it came from.
        servers: [{ url: '/' }],
        tags,
        components: { securitySchemes: passwordScheme() },
      },
      refResolver: { buildLocalReference: ({ $id }) => $id as string },
      // The router ignores a trailing slash; paths with and without it would be two in the document.
      transform: ({ schema, url }) => ({ schema, url: url.replace(/(?<=.)\/$/, '') }),
      transformObject: (document) => ('openapiObject' in document ? finish(document.openapiObject as Document) : {}),
    })
  },
  { name: 'openapi', dependencies: ['headers'] },
)

type Schema = { title?: string; required?: string[]; minProperties?: number; $ref?: string }
type Body = { required?: boolean; content?: Record<string, { schema: Schema }> }
type Operation = { operationId?: string; requestBody?: Body; responses: Record<string, Body> }
type Document = {
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, Schema>; securitySchemes: object }
}

/** Adds what only the whole tells: where to log in, which bodies may be left out, components for titled shapes. */
function finish(document: Document): Document {
  const { paths, components } = document
  const operations = Object.entries(paths).flatMap(([path, item]) =>
    Object.values(item).map((operation) => ({ ...operation, path })),
  )
  const pathOf = (name: RegExp) => operations.find(({ operationId = '' }) => name.test(operationId))?.path
  components.securitySchemes = passwordScheme(pathOf(/(logIn|oauthToken)$/i), pathOf(/(refreshTokens|oauthToken)$/i))

  const mediaOf = (body?: Body) => Object.values(body?.content ?? {})
  for (const { requestBody, responses } of operations) {
    if (requestBody)
      requestBody.required = mediaOf(requestBody).some(({ schema }) => schema.required || schema.minProperties)
    for (const media of [requestBody, ...Object.values(responses)].flatMap(mediaOf)) {
      const { title } = media.schema
      if (title === undefined) continue
      if (!isDeepStrictEqual((components.schemas[title] ??= media.schema), media.schema))
        throw new Error(`two shapes are titled ${title}`)
      media.schema = { $ref: `#/components/schemas/${title}` }
    }
  }
  return document
}

function passwordScheme(tokenUrl = '/', refreshUrl?: string) {
  const password = { tokenUrl, ...(refreshUrl === undefined ? {} : { refreshUrl }), scopes: {} }
  return { OAuth2PasswordBearer: { type: 'oauth2', flows: { password } } } as const
}

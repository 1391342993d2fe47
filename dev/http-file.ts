interface Operation {
  readonly operationId: string
  readonly summary: string
  readonly security?: readonly Record<string, unknown>[]
  readonly parameters?: readonly { in: string; name: string; example?: string | number }[]
  readonly requestBody?: { content: Record<string, { example?: Record<string, unknown> }> }
}

type Paths = Record<string, Record<string, Operation>>

const byForm = 'application/x-www-form-urlencoded'

/** Every operation of an OpenAPI document as a request of an `.http` file, as editors and their plugins send it. */
export function httpFileOf({ paths }: { readonly paths: Paths }): string {
  const requests = Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => requestOf(method.toUpperCase(), path, operation)),
  )
  return ['# Made by npm run openapi.', '@host = http://localhost:8000', '@token =', '', ...requests].join('\n')
}

function requestOf(method: string, path: string, operation: Operation): string {
  const { operationId, summary, security = [], parameters = [], requestBody } = operation
  const url = path.replaceAll(/\{([^}]+)\}/g, (_, name: string) => {
    const known = parameters.find((parameter) => parameter.in === 'path' && parameter.name === name)
    return encodeURIComponent(`${known?.example ?? name}`)
  })
  const lines = [`### ${summary}`, `# @name ${operationId}`, `${method} {{host}}${url}`]
  if (security.some((scheme) => Object.keys(scheme).length > 0)) lines.push('Authorization: Bearer {{token}}')
  const [type, body] = Object.entries(requestBody?.content ?? {})[0] ?? []
  if (type === undefined) return [...lines, ''].join('\n')
  return [
    ...lines,
    `Content-Type: ${type}`,
    '',
    type === byForm ? formOf(body?.example) : jsonOf(body?.example),
    '',
  ].join('\n')
}

function jsonOf(example: Record<string, unknown> = {}): string {
  return JSON.stringify(example, null, 2)
}

function formOf(example: Record<string, unknown> = {}): string {
  const filled = Object.entries(example).filter(([, value]) => value !== '')
  return new URLSearchParams(filled.map(([name, value]) => [name, String(value)])).toString()
}

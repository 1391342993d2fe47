import { settings } from '#src/config.ts'

/** The table of all settings in the README. */
export function readmeTable(): string {
  const rows = settings.map(({ name, schema, says, without }) => {
    const byDefault = Reflect.get(schema, 'default') as string | number | boolean | undefined
    const none = without === undefined ? 'none' : `none: ${without}`
    return `| \`${name}\` | ${says} | ${byDefault === undefined ? none : `\`${String(byDefault)}\``} |`
  })
  return ['| variable | meaning | default |', '|---|---|---|', ...rows, ''].join('\n')
}

const opening = `# Copy to .env and fill in; \`docker compose\`, \`npm start\` and \`npm run admin\` read it.
# compose.yaml says which settings go on to the service.
`

/** The file `.env.example`. */
export function exampleFile(): string {
  const names = Map.groupBy(settings, ({ example }) => example)
  const sections = [...names].flatMap(([example, members]) =>
    example === undefined ? [] : `# ${example}\n${members.map(({ name }) => `${name}=\n`).join('')}`,
  )
  return [opening, ...sections].join('\n')
}

/** Where the table stands in the README. */
export const tablePlace = /^\| variable \| meaning \| default \|\n(?:\|.*\n)+/m

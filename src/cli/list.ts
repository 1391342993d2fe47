import { listUsers, type UserSearch } from '#src/features/accounts/administration.ts'
import type { Core } from '#src/features/core.ts'
import type { Account } from '#src/features/accounts/accounts.sql.ts'
import { userBody } from '#src/features/accounts/user-body.ts'
import type { Context } from './command.ts'
import { withCore } from './core.ts'
import { writeAll } from './output.ts'

const pageSize = 200

interface Values {
  readonly q?: string | undefined
  readonly role?: string | undefined
  readonly inactive?: boolean | undefined
  readonly json?: boolean | undefined
}

export function list(context: Context, _operands: readonly [], values: Values): Promise<string> {
  const isActive = values.inactive ? false : undefined
  const search = { text: values.q, role: values.role, isActive, limit: pageSize }
  return withCore(context, async (core) => {
    await writeAll(pages(core, search, values.json ? jsonLines : table), '-', context.io)
    return ''
  })
}

type Shape = (users: Account[], isFirst: boolean) => string[]

async function* pages(core: Core, search: UserSearch, shape: Shape): AsyncGenerator<string, void, undefined> {
  let after: number | undefined = 0
  let isFirst = true
  while (after !== undefined) {
    const { items, next } = await listUsers(core, { ...search, after })
    const lines = shape(items, isFirst)
    if (lines.length > 0) yield `${lines.join('\n')}\n`
    isFirst &&= items.length === 0
    after = next
  }
  if (isFirst && shape === table) yield 'No user.\n'
}

const jsonLines: Shape = (users) => users.map((user) => JSON.stringify(userBody(user)))

/** Lines of aligned columns; each page has its own widths. */
function table(users: Account[], withHead: boolean): string[] {
  const rows = users
    .map(({ id, email, username, fullName, roles, isActive, createdAt }) => [
      String(id),
      email ?? '-',
      username ?? '-',
      fullName ?? '-',
      roles.join(',') || '-',
      isActive ? 'active' : 'disabled',
      createdAt.toISOString().slice(0, 10),
    ])
    .map((row) => row.map((cell) => cell.replaceAll(/[\p{Cc}\p{Cf}]/gu, '?')))
  if (rows.length === 0) return []
  const head = ['ID', 'E-MAIL', 'USERNAME', 'NAME', 'ROLES', 'STATE', 'SINCE']
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)))
  const lines = [...(withHead ? [head] : []), ...rows]
  return lines.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}

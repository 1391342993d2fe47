import { presetNames } from './columns.ts'
import { command } from './command.ts'

const entries = [
  command({
    name: 'create',
    options: {
      email: { type: 'string', value: 'ADDRESS', required: true, says: 'counts as confirmed' },
      username: { type: 'string', value: 'NAME', says: 'another name to log in by' },
      'full-name': { type: 'string', value: 'NAME', says: 'for mails and lists' },
    },
    says: 'Makes an administrator. The password is asked for, or read from standard input.',
    load: async () => (await import('./create.ts')).create,
  }),
  command({
    name: 'confirm',
    operands: ['USER'],
    says: "Marks a user's e-mail address as confirmed.",
    load: async () => (await import('./confirm.ts')).confirm,
  }),
  command({
    name: 'set-password',
    operands: ['USER'],
    says: 'Sets a password, ends every session, and tells the user by mail. It is asked for, or read from standard input.',
    load: async () => (await import('./set-password.ts')).setPasswordOfUser,
  }),
  command({
    name: 'list',
    options: {
      q: { type: 'string', value: 'TEXT', says: 'a part of the e-mail address, username or full name' },
      role: { type: 'string', value: 'ROLE', says: 'only those who have the role' },
      inactive: { type: 'boolean', says: 'only those who are disabled' },
      json: { type: 'boolean', says: 'JSON lines instead of a table' },
    },
    says: 'Shows the users.',
    load: async () => (await import('./list.ts')).list,
  }),
  command({
    name: 'grant',
    operands: ['USER', 'ROLE'],
    says: 'Gives a role.',
    load: async () => (await import('./roles.ts')).grant,
  }),
  command({
    name: 'revoke',
    operands: ['USER', 'ROLE'],
    says: 'Takes a role away.',
    load: async () => (await import('./roles.ts')).revoke,
  }),
  command({
    name: 'disable',
    operands: ['USER'],
    says: 'Locks a user out and ends every session.',
    load: async () => (await import('./state.ts')).disable,
  }),
  command({
    name: 'enable',
    operands: ['USER'],
    says: 'Lets a user in again.',
    load: async () => (await import('./state.ts')).enable,
  }),
  command({
    name: 'logout',
    operands: ['USER'],
    says: 'Ends every session of a user.',
    load: async () => (await import('./logout.ts')).logout,
  }),
  command({
    name: 'delete',
    operands: ['USER'],
    options: { yes: { type: 'boolean', says: 'without asking' } },
    says: 'Deletes a user with everything of theirs. Asks at the terminal.',
    load: async () => (await import('./delete.ts')).deleteUser,
  }),
  command({
    name: 'import',
    operands: ['FILE|-'],
    options: {
      format: { type: 'string', value: 'jsonl|csv', says: 'how the file is written; else its name tells' },
      map: {
        type: 'string',
        multiple: true,
        value: 'PRESET|FIELD=COLUMN',
        says: `which columns to read; may be repeated. Presets: ${presetNames.join(', ')}`,
      },
      update: { type: 'boolean', says: 'fills in what accounts lack that are there already; overwrites nothing' },
      'without-passwords': { type: 'boolean', says: 'makes accounts without a password where the file has no hash' },
      'dry-run': { type: 'boolean', says: 'changes nothing' },
      report: { type: 'string', value: 'FILE', says: 'where to write which rows were refused, and why' },
    },
    says: 'Brings users along with the hashes of their passwords. Running it again finds them all registered.',
    load: async () => (await import('./import.ts')).importUsers,
  }),
  command({
    name: 'export',
    operands: ['[FILE|-]'],
    says: 'Writes every user with the password hash as JSON lines that import reads; only the owner may read the file.',
    load: async () => (await import('./export.ts')).exportUsers,
  }),
  command({
    name: 'keys',
    operands: ['list|rotate|retire', '[KID]'],
    options: { now: { type: 'boolean', says: 'rotate: the next key signs at once, not in ten minutes' } },
    says: 'Shows the signing keys, publishes the next one, which signs in ten minutes, or ends the key KID at once.',
    load: async () => (await import('./keys.ts')).keys,
  }),
  command({
    name: 'demo',
    says: 'Fills a development database with users of every kind and their sessions, to look at and to test with.',
    load: async () => (await import('./demo.ts')).demo,
  }),
  command({
    name: 'migrate',
    says: 'Brings the schema of the database up to date.',
    load: async () => (await import('./migrate.ts')).migrate,
  }),
]

/** Every command by its name, in the order of the overview; what a command needs is loaded when it runs. */
export const commands = new Map(entries.map((entry) => [entry.synopsis.split(' ')[0] ?? '', entry]))

/** How the commands are called, and what each does. */
export const overview = `Usage: npm run admin -- COMMAND

${entries.map(({ synopsis, says }) => `  ${synopsis}\n      ${says}\n`).join('')}
USER is an e-mail address, a username or an id. COMMAND --help says more of one command.
`

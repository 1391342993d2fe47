import type { Entry } from './command.ts'
import { confirm } from './confirm.ts'
import { create } from './create.ts'
import { deleteUser } from './delete.ts'
import { exportUsers } from './export.ts'
import { importUsers } from './import.ts'
import { keys } from './keys.ts'
import { list } from './list.ts'
import { logout } from './logout.ts'
import { migrate } from './migrate.ts'
import { grant, revoke } from './roles.ts'
import { setPasswordOfUser } from './set-password.ts'
import { disable, enable } from './state.ts'

/** Every command by its name, in the order of the overview. */
export const commands: ReadonlyMap<string, Entry> = new Map(
  [
    create,
    confirm,
    setPasswordOfUser,
    list,
    grant,
    revoke,
    disable,
    enable,
    logout,
    deleteUser,
    importUsers,
    exportUsers,
    keys,
    migrate,
  ].map((entry) => [entry.synopsis.split(' ')[0] ?? '', entry]),
)

/** How the commands are called, and what each does. */
export const overview = `Usage: npm run admin -- COMMAND

${[...commands.values()].map(({ synopsis, says }) => `  ${synopsis}\n      ${says}\n`).join('')}
USER is an e-mail address, a username or an id. COMMAND --help says more of one command.
`

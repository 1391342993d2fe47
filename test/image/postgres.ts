import { execFile } from 'node:child_process'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { cleanUp } from '#test/support/clean-up.ts'
import { freePort, temporaryFolder } from '#test/support/process.ts'

const execute = promisify(execFile)
const password = 'a-password-of-the-database'

/** Debian's PostgreSQL 15 on a port of this machine, with a password; stopped when the file ends. */
export async function startPostgres(): Promise<string> {
  const folder = await temporaryFolder()
  const port = await freePort()
  await chmod(folder, 0o777)
  const secret = join(folder, 'password')
  await writeFile(secret, password)
  const asPostgres = (program: string, ...options: string[]) =>
    execute('runuser', ['-u', 'postgres', '--', join('/usr/lib/postgresql/15/bin', program), ...options], { cwd: '/' })
  const data = join(folder, 'data')
  await asPostgres('initdb', `--pgdata=${data}`, '--auth=scram-sha-256', `--pwfile=${secret}`, '--encoding=UTF8')
  const options = `-k ${folder} -p ${port} -c listen_addresses=127.0.0.1`
  await asPostgres('pg_ctl', `--pgdata=${data}`, '--wait', `--log=${folder}/log`, `--options=${options}`, 'start')
  cleanUp(() => asPostgres('pg_ctl', `--pgdata=${data}`, '--mode=immediate', 'stop'))
  return `postgres://postgres:${password}@127.0.0.1:${port}/postgres`
}

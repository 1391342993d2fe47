import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { rotateRefreshToken } from '#src/features/sessions/rotation.sql.ts'
import { sessionState } from './limits.ts'
import { poolSize } from './processes.ts'

/** Gives each client a session of its own, from the end that `someHeads` reaches last. */
const ownSession = `\\if :ready = 0
select s.id as "sessionId", s.user_id as "userId", s.generation, t.digest, t.digest as "successorDigest", 'salt' as salt
from sessions s join refresh_tokens t on t.session_id = s.id and t.generation = s.generation
order by md5(s.id::text) desc offset :client_id limit 1 \\gset
\\set ready 1
\\endif
`

/** The same statements without Node and HTTP, on as many connections as the pool has; per second. */
export async function runPgbench(url: string, seconds: number): Promise<{ select: number; rotate: number }> {
  const folder = await mkdtemp(join(tmpdir(), 'latchkey-pgbench-'))
  const run = async (script: string) => {
    const file = join(folder, 'script.sql')
    await writeFile(file, script)
    const options = `-n -M prepared -c ${poolSize} -T ${seconds} -D ready=0 -D refreshSeconds=604800 -f ${file}`
    const { stdout } = await promisify(execFile)('pgbench', [...options.split(' '), url])
    return Number(/tps = ([\d.]+)/.exec(stdout)?.[1])
  }
  try {
    const select = await run(`${ownSession}${withNames(sessionState)};\n`)
    const rotate = await run(`${ownSession}${withNames(rotateRefreshToken)};\n\\set generation :generation + 1\n`)
    return { select, rotate }
  } finally {
    await rm(folder, { recursive: true })
  }
}

function withNames({ text, names }: { text: string; names: readonly string[] }): string {
  return text.replaceAll(/\$(\d+)/g, (_match, n: string) => `:${names[Number(n) - 1]}`)
}

import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import type { Io } from './command.ts'
import { UsageError } from './failure.ts'

/** From the terminal without echo, or the first line of standard input; never from the arguments, which others can see. */
export async function readPassword({ stdin, stderr }: Io): Promise<string> {
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() })
  const terminal = stdin.isTTY === true
  const lines = createInterface({ input: stdin, output: silent, terminal })
  // The terminal shows no more what is typed by the time that it asks.
  if (terminal) stderr.write('Password: ')
  for await (const line of lines) {
    lines.close()
    if (terminal) stderr.write('\n')
    if (/[\0\uFFFD]/.test(line)) throw new UsageError('the password is not a text in UTF-8')
    return line
  }
  throw new UsageError('no password was given')
}

/** Whether somebody at the terminal answers with yes; throws `UsageError` where there is none. */
export async function isConfirmed(question: string, { stdin, stderr }: Io): Promise<boolean> {
  if (!stdin.isTTY) throw new UsageError('there is no terminal to ask at; give --yes')
  const lines = createInterface({ input: stdin, output: stderr })
  try {
    return /^y(es)?$/i.test((await lines.question(`${question} [y/N] `)).trim())
  } finally {
    lines.close()
  }
}

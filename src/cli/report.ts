import { open } from 'node:fs/promises'
import type { Io } from './command.ts'
import { fileFault } from './failure.ts'

/** Where it is said which rows were refused, and why. */
export interface Report {
  readonly refuse: (line: number, reason: string) => Promise<void>
  readonly close: () => Promise<void>
}

/** JSON lines into a file, or the first few on the terminal. */
export async function reportTo(file: string | undefined, io: Io): Promise<Report> {
  return file === undefined ? onTerminal(io) : intoFile(file)
}

function onTerminal({ stderr }: Io): Report {
  let left = 10
  return {
    refuse: async (line, reason) => {
      if (left-- > 0) stderr.write(`line ${line}: ${reason}${left === 0 ? '\nand more: see --report FILE' : ''}\n`)
    },
    close: async () => {},
  }
}

const piece = 1 << 16

async function intoFile(name: string): Promise<Report> {
  const unwritable = (error: unknown): never => {
    throw fileFault(name, 'written', error)
  }
  const file = await open(name, 'w', 0o600).catch(unwritable)
  let text = ''
  const flush = async () => {
    const written = text
    text = ''
    await file.write(written).catch(unwritable)
  }
  return {
    refuse: async (line, reason) => {
      text += `${JSON.stringify({ line, reason })}\n`
      if (text.length > piece) await flush()
    },
    close: async () => {
      try {
        if (text !== '') await flush()
      } finally {
        await file.close()
      }
    },
  }
}

import { createWriteStream } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Io } from './command.ts'
import { codeOf, fileFault } from './failure.ts'

/** Writes texts to standard output (`-`) or into a new file that only its owner may read; throws `Failure`. */
export async function writeAll(texts: AsyncIterable<string>, file: string, { stdout }: Io): Promise<void> {
  try {
    if (file === '-') await pipeline(Readable.from(texts), stdout, { end: false })
    else await pipeline(Readable.from(texts), createWriteStream(file, { mode: 0o600, flags: 'wx' }))
  } catch (error) {
    // Whoever read it, such as head, has had enough.
    if (codeOf(error) === 'EPIPE') return
    const isOfFile = error instanceof Error && 'syscall' in error
    throw isOfFile ? fileFault(file === '-' ? 'Standard output' : file, 'written', error) : error
  }
}

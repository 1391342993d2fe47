import { ConfigError } from './config.ts'
import { reasonOf } from './data-folder.ts'
import { SchemaError } from './db/migrate.ts'
import { Problem } from './problem.ts'
import { StartError } from './start-error.ts'

const ours = [ConfigError, SchemaError, StartError]

const sentences: Record<string, string> = {
  EADDRINUSE: 'The port is in use by another program; stop it or set PORT.',
  EADDRNOTAVAIL: 'HOST is no address of this machine.',
  AVV_ERR_PLUGIN_EXEC_TIMEOUT: 'The start took longer than two minutes and was given up; is the database overloaded?',
  '42501': 'The role of the database lacks rights on the tables; see docs/operations.md.',
  '53100': 'The disk of the database is full.',
  '57014': 'The database took too long and gave up (57014).',
}

/** Faults of the network and of the driver, and the SQLSTATEs of refused and broken connections. */
const away = /^(CONNECT|SASL_|AUTH_|E(CONN|HOST|NET|AI_)|ETIMEDOUT$|EPIPE$|ENOTFOUND$|08|28|3D|57P)/
const certificate = /^(ERR_TLS_|CERT_|DEPTH_ZERO_|UNABLE_TO_|SELF_SIGNED_)/

/** Why a program cannot go on, for the person at the terminal: one sentence where we know it, a stack where we do not. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (ours.some((type) => error instanceof type)) return error.message
  // The words for clients do not say which part is away.
  if (error instanceof Problem)
    return typeof error.cause === 'string' ? `${error.detail} (${error.cause})` : error.detail
  return (
    sentenceOf(error) ?? (error.cause instanceof Error ? sentenceOf(error.cause) : undefined) ?? String(error.stack)
  )
}

function sentenceOf(error: Error): string | undefined {
  const { code = '', syscall = '', path } = error as NodeJS.ErrnoException
  if (sentences[code] !== undefined) return sentences[code]
  if (syscall === 'listen' && code === 'EACCES') return 'The port may not be used by this user; set PORT.'
  if (syscall === 'connect' || away.test(code))
    return `The database cannot be used (${code}). Is the database reachable, with this user and password?`
  if (certificate.test(code)) return `The certificate of the database is not trusted (${code}); see docs/operations.md.`
  if (code.startsWith('CSV_')) return `The file cannot be read as CSV (${code}).`
  if (error.name === 'PostgresError') return `The database answered with the error ${code}.`
  const reason = reasonOf(error)
  if (reason === undefined) return undefined
  return path === undefined ? `${reason.charAt(0).toUpperCase()}${reason.slice(1)}.` : `${path}: ${reason}.`
}

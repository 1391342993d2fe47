import { randomBytes } from 'node:crypto'
import type { Database } from '#src/db/database.ts'
import { seal, unseal } from '#src/db/sealing.ts'
import { digestOf } from '#src/features/tokens/tokens.ts'
import { insertPending, type PendingRow, spendTry, takePending } from './pending.sql.ts'

/** What a login was begun for, until its other half comes. */
interface Begun<Data> {
  /** Who has proven to be this user; nobody yet is null. Ends when all sessions of the user do. */
  readonly userId: number | null
  readonly data: Data
}

/** One kind of thing that can be pending. */
export interface Pending<Data> {
  /** Stores it, sealed; resolves to the secret that the client is to bring. */
  readonly begin: (begun: Begun<Data>) => Promise<string>
  /** Spends one of its tries; `undefined` when there is nothing, or no try left. */
  readonly attempt: (secret: string) => Promise<Begun<Data> | undefined>
  /** Ends it; of any number at once one succeeds. */
  readonly take: (secret: string) => Promise<Begun<Data> | undefined>
}

interface PendingOptions {
  readonly kind: string
  readonly tries: number
  readonly seconds: number
}

/** Keeps one kind of pending login; `secrets` are those of the service, the current one first. */
export function makePending<Data>(
  db: Database,
  secrets: readonly string[],
  { kind, tries, seconds }: PendingOptions,
): Pending<Data> {
  const [secretKey] = secrets
  if (secretKey === undefined) throw new Error('there is no key for what is pending')
  const purpose = `pending-${kind}`

  /** What was sealed under a secret that is gone is as good as gone. */
  function open(row: PendingRow | undefined): Begun<Data> | undefined {
    if (!row) return undefined
    const text = unseal(row.data, secrets, purpose)
    return text === undefined ? undefined : { userId: row.userId, data: JSON.parse(text) as Data }
  }
  const keyOf = (secret: string) => ({ kind, digest: digestOf(Buffer.from(secret, 'base64url')) })

  return {
    begin: async ({ userId, data }) => {
      const secret = randomBytes(32)
      const sealed = seal(JSON.stringify(data), secretKey, purpose)
      await db.rows(insertPending, { kind, digest: digestOf(secret), userId, data: sealed, tries, seconds })
      return secret.toString('base64url')
    },
    attempt: async (secret) => open(await db.row(spendTry, keyOf(secret))),
    take: async (secret) => open(await db.row(takePending, keyOf(secret))),
  }
}

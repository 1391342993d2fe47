import { Budget } from '#src/db/budget.ts'
import type { Database } from '#src/db/database.ts'
import { type Grant, type Rotation, rotateRefreshToken, rotateRefreshTokens } from './rotation.sql.ts'

/** So many first uses go to the database at once, each in a statement of its own, which is soonest for each of them. */
const few = 4
/** Of one statement that is shared. */
const mostShared = 100
/** Milliseconds after which the others no longer wait for a statement that is under way. */
const patienceMs = 100

export interface Rotations {
  /** First use of a refresh token: resolves to its grant, or to `undefined` when it was not the unspent head. */
  readonly rotate: (rotation: Rotation) => Promise<Grant | undefined>
}

interface Asked {
  readonly rotation: Rotation
  /** The budget of the request. */
  readonly payer: Budget
  readonly resolve: (grant: Grant | undefined | Promise<Grant | undefined>) => void
}

/**
 * Lets first uses share a statement while the database is busy: whoever comes while more than a few are under way waits
 * until they are back, and goes with all who came meanwhile. A session that somebody else has locked, and all of a
 * statement that failed, go alone, so that nobody waits for a stranger's lock and no fault is shared.
 */
export function makeRotations(db: Database): Rotations {
  const waiting: Asked[] = []
  let underWay = 0

  const rotate = (rotation: Rotation) =>
    new Promise<Grant | undefined>((resolve) => {
      waiting.push({ rotation, payer: Budget.current ?? new Budget(), resolve })
      depart()
    })

  function depart(): void {
    while (waiting.length > 0 && (underWay === 0 || underWay + waiting.length <= few))
      follow(waiting.length <= few ? waiting.splice(0, 1) : takeStrangers(waiting))
  }

  function follow(group: Asked[]): void {
    let counted = group.length
    underWay += counted
    const land = () => {
      underWay -= counted
      counted = 0
      depart()
    }
    const overdue = setTimeout(land, patienceMs)
    void send(group).then(() => {
      clearTimeout(overdue)
      land()
    })
  }

  /** Resolves when the group is back; who has to go alone then is no longer waited for. */
  async function send(group: Asked[]): Promise<void> {
    const [first] = group
    if (first && group.length === 1) {
      const grant = alone(first)
      first.resolve(grant)
      await grant.catch(() => {})
      return
    }
    const grants = await together(group)
    group.forEach((asked, i) => asked.resolve(grants[i] ?? alone(asked)))
  }

  async function together(group: Asked[]): Promise<Array<Grant | undefined>> {
    const grants = Array.from<Grant | undefined>({ length: group.length })
    const budget = new Budget()
    try {
      const rows = await budget.run(() => db.rows(rotateRefreshTokens, listsOf(group)))
      for (const { place, ...grant } of rows) grants[place - 1] = grant
    } catch {
      // Each learns alone what became of it.
    } finally {
      for (const { payer } of group) payer.pay(budget)
    }
    return grants
  }

  function alone({ rotation, payer }: Asked): Promise<Grant | undefined> {
    return payer.run(() => db.row(rotateRefreshToken, rotation))
  }

  return { rotate }
}

/** Takes those who came first, of each session one: two first uses of one token cannot share a statement. */
function takeStrangers(waiting: Asked[]): Asked[] {
  const group = new Map<string, Asked>()
  const left: Asked[] = []
  for (const asked of waiting.splice(0)) {
    const { sessionId } = asked.rotation
    if (group.size < mostShared && !group.has(sessionId)) group.set(sessionId, asked)
    else left.push(asked)
  }
  waiting.push(...left)
  return [...group.values()]
}

function listsOf(group: readonly Asked[]) {
  const list = <T>(read: (rotation: Rotation) => T) => group.map(({ rotation }) => read(rotation))
  return {
    sessionIds: list(({ sessionId }) => sessionId),
    generations: list(({ generation }) => generation),
    digests: list(({ digest }) => digest.toString('hex')),
    salts: list(({ salt }) => salt.toString('hex')),
    successorDigests: list(({ successorDigest }) => successorDigest.toString('hex')),
    refreshSeconds: group[0]?.rotation.refreshSeconds ?? 0,
  }
}

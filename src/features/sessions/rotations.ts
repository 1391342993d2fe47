import { Budget } from '#src/db/budget.ts'
import { clock } from '#src/db/clock.ts'
import type { Database } from '#src/db/database.ts'
import { asProblem, DatabaseError, isUnsupported } from '#src/db/faults.ts'
import { Problem } from '#src/problem.ts'
import { type Grant, type Rotation, rotateRefreshToken, rotateRefreshTokens } from './rotation.sql.ts'

/** So many first uses go to the database at once, each in a statement of its own, which is soonest for each of them. */
const few = 4
/** Of one statement that is shared. */
const mostShared = 100
/** Milliseconds after which the others no longer wait for a statement that is under way. */
const patienceMs = 100
/** Milliseconds that one waits, and how many may for each connection, as for the pool itself. */
const queueMs = 600
const queuePerConnection = 100

export interface Rotations {
  /** First use of a refresh token: resolves to its grant, or to `undefined` when it was not the unspent head. */
  readonly rotate: (rotation: Rotation) => Promise<Grant | undefined>
}

interface Asked {
  readonly rotation: Rotation
  /** The budget of the request. */
  readonly payer: Budget
  readonly resolve: (grant: Grant | undefined | Promise<Grant | undefined>) => void
  readonly reject: (error: unknown) => void
  /** Leaves the queue: the time that it waited is the request's own. */
  readonly leave: () => void
}

/**
 * Lets first uses share a statement while the database is busy: whoever comes while more than a few are under way waits
 * until they are back, and goes with all who came meanwhile. A session that somebody else has locked, and all of a
 * statement that one of them made fail, go alone, so that nobody waits for a stranger's lock or shares a stranger's fault.
 * The wait has the limits of the pool's own queue. Where the database refuses to share, all go alone from then on.
 */
export function makeRotations(db: Database): Rotations {
  const waiting: Asked[] = []
  let underWay = 0
  let canShare = true

  const rotate = (rotation: Rotation): Promise<Grant | undefined> =>
    canShare ? queue(rotation) : db.row(rotateRefreshToken, rotation)

  const queue = (rotation: Rotation) =>
    new Promise<Grant | undefined>((resolve, reject) => {
      if (waiting.length >= db.size * queuePerConnection) throw asProblem(new DatabaseError('POOL_QUEUE_FULL'), true)
      const payer = Budget.current ?? new Budget()
      const since = clock.now
      const alarm = clock.set(queueMs, () => {
        waiting.splice(waiting.indexOf(asked), 1)
        reject(asProblem(new DatabaseError('POOL_QUEUE_TIMEOUT'), true))
      })
      const leave = () => {
        clock.cancel(alarm)
        payer.spend(clock.now - since)
      }
      const asked: Asked = { rotation, payer, resolve, reject, leave }
      waiting.push(asked)
      depart()
    })

  function depart(): void {
    while (waiting.length > 0 && (underWay === 0 || underWay + waiting.length <= few)) {
      const { group, again } =
        waiting.length <= few ? { group: waiting.splice(0, 1), again: [] } : takeStrangers(waiting)
      for (const asked of [...group, ...again]) asked.leave()
      for (const asked of again) asked.resolve(alone(asked))
      follow(group)
    }
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
    try {
      const grants = await together(group)
      group.forEach((asked, i) => asked.resolve(grants[i] ?? alone(asked)))
    } catch (error) {
      // A database that is away or too slow is nobody's own fault, and would not get better by being asked again.
      for (const asked of group) asked.reject(error)
    }
  }

  async function together(group: Asked[]): Promise<Array<Grant | undefined>> {
    const grants = Array.from<Grant | undefined>({ length: group.length })
    if (!canShare) return grants
    const budget = Budget.sharedBy(group)
    try {
      const rows = await budget.run(() => db.rows(rotateRefreshTokens, listsOf(group)))
      for (const { place, ...grant } of rows) grants[place - 1] = grant
    } catch (error) {
      if (error instanceof Problem) throw error
      // One of them made it fail, or the database does not share: each learns alone what becomes of it.
      if (isUnsupported(error)) canShare = false
    } finally {
      budget.settle()
    }
    return grants
  }

  function alone({ rotation, payer }: Asked): Promise<Grant | undefined> {
    return payer.run(() => db.row(rotateRefreshToken, rotation))
  }

  return { rotate }
}

/**
 * Takes those who came first, of each session one: two first uses of one token cannot share a statement, and whoever knows
 * the name of a session must not make others wait, so the rest of a session goes `again`, alone.
 */
function takeStrangers(waiting: Asked[]): { group: Asked[]; again: Asked[] } {
  const taken = waiting.splice(0, mostShared)
  const group = new Map<string, Asked>()
  for (const asked of taken) if (!group.has(asked.rotation.sessionId)) group.set(asked.rotation.sessionId, asked)
  return { group: [...group.values()], again: taken.filter((asked) => group.get(asked.rotation.sessionId) !== asked) }
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

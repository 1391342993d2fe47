import { type FormEvent, type KeyboardEvent, useEffect, useRef, useState } from 'react'
import { client } from './session.ts'

interface Card {
  readonly id: string
  readonly column: string
  readonly title: string
}

const columns = { todo: 'To do', doing: 'Doing', done: 'Done' }
const keys = Object.keys(columns)

/** Throws when another session has begun since: what one user changes goes to no other. */
function requireSession(session: string | undefined): void {
  if (session !== undefined && client.getSnapshot().session !== session) throw new Error('another session')
}

/** Sends a change of the board, again while it gets no answer: each is safe to repeat. */
async function send(path: string, init?: RequestInit): Promise<Card[]> {
  const { session } = client.getSnapshot()
  for (let attempt = 1; ; attempt++) {
    requireSession(session)
    const reply = await client.fetch(path, { signal: AbortSignal.timeout(5000), ...init }).catch(() => undefined)
    if (reply?.ok) return reply.json() as Promise<Card[]>
    if (attempt === 5 || (reply && reply.status < 500)) throw new Error(`${path}: ${reply?.status ?? 'no answer'}`)
    await new Promise((resolve) => setTimeout(resolve, 300 * 2 ** attempt))
  }
}

const put = (card: Card, before?: string) =>
  send(`/board/cards/${card.id}`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ title: card.title, column: card.column, before }),
  })

export function Board() {
  const [cards, setCards] = useState<Card[]>()
  const [lifted, setLifted] = useState<string>()
  const [notice, setNotice] = useState('')

  const stored = useRef<Card[]>([])
  const last = useRef<Promise<void>>(undefined)

  async function storeAfter(previous: Promise<void> | undefined, store: () => Promise<Card[]>) {
    const { session } = client.getSnapshot()
    await previous
    try {
      requireSession(session)
      stored.current = await store()
    } catch {
      setNotice('That could not be stored; try again shortly.')
    }
  }

  /**
   * Shows a change at once and stores it when those before it are stored: in another order they would leave another board.
   * What is stored is shown after the last one, also where one could not be stored.
   */
  function change(next: Card[], store: () => Promise<Card[]>) {
    setCards(next)
    const turn = storeAfter(last.current, store)
    last.current = turn
    void turn.then(() => {
      if (last.current === turn) setCards(stored.current)
    })
  }

  useEffect(() => {
    let isWanted = true
    send('/board').then(
      (cards) => isWanted && setCards((stored.current = cards)),
      () => isWanted && setNotice('The board cannot be reached; load the page again shortly.'),
    )
    return () => {
      isWanted = false
    }
  }, [])

  // In another column it is another element.
  useEffect(() => {
    if (lifted !== undefined) document.getElementById(lifted)?.focus()
  }, [cards, lifted])

  if (!cards) return <p role="status">{notice || 'Loading'}</p>

  const inColumn = (column: string) => cards.filter((card) => card.column === column)

  function move(id: string, column: string, before?: string) {
    const card = cards?.find((card) => card.id === id)
    if (!cards || !card || before === id) return
    const moved = { ...card, column }
    const rest = cards.filter((other) => other.id !== id)
    const place = rest.findIndex((other) => other.id === before)
    rest.splice(place === -1 ? rest.length : place, 0, moved)
    setNotice(`${card.title}: ${columns[column as keyof typeof columns]}`)
    change(rest, () => put(moved, before))
  }

  function onKey(event: KeyboardEvent, card: Card) {
    if (event.key === ' ' || event.key === 'Enter') {
      event.preventDefault()
      setLifted(lifted === card.id ? undefined : card.id)
      setNotice(lifted === card.id ? `${card.title}: put down` : `${card.title}: lifted; arrows move it`)
    }
    if (event.key === 'Escape') setLifted(undefined)
    if (lifted !== card.id || !event.key.startsWith('Arrow')) return
    event.preventDefault()
    const column = keys[keys.indexOf(card.column) + ({ ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? 0)]
    if (column !== undefined && column !== card.column) move(card.id, column)
    const neighbours = inColumn(card.column)
    const place = neighbours.indexOf(card)
    if (event.key === 'ArrowUp' && place > 0) move(card.id, card.column, neighbours[place - 1]?.id)
    if (event.key === 'ArrowDown' && place < neighbours.length - 1)
      move(card.id, card.column, neighbours[place + 2]?.id)
  }

  function add(event: FormEvent<HTMLFormElement>) {
    event.preventDefault()
    const form = event.currentTarget
    const card = { id: crypto.randomUUID(), column: 'todo', title: String(new FormData(form).get('title')).trim() }
    if (card.title === '') return
    form.reset()
    change([...(cards ?? []), card], () => put(card))
  }

  return (
    <main>
      <form className="add" onSubmit={add}>
        <label>
          New card
          <input name="title" maxLength={200} required />
        </label>
        <button>Add</button>
      </form>
      <p id="how">Drag a card, or press the space bar on it and move it by the arrow keys.</p>
      <p role="status">{notice}</p>
      <div className="board">
        {Object.entries(columns).map(([column, name]) => (
          <section
            key={column}
            aria-label={name}
            onDragOver={(event) => event.preventDefault()}
            onDrop={(event) => move(event.dataTransfer.getData('text/plain'), column)}
          >
            <h2>{name}</h2>
            <ul>
              {inColumn(column).map((card) => (
                <li key={card.id}>
                  <div
                    className="card"
                    id={card.id}
                    role="button"
                    tabIndex={0}
                    draggable
                    aria-pressed={lifted === card.id}
                    aria-describedby="how"
                    onKeyDown={(event) => onKey(event, card)}
                    onDragStart={(event) => event.dataTransfer.setData('text/plain', card.id)}
                    onDrop={(event) => {
                      event.stopPropagation()
                      move(event.dataTransfer.getData('text/plain'), column, card.id)
                    }}
                  >
                    {card.title}
                  </div>
                  <button
                    aria-label={`Delete ${card.title}`}
                    onClick={() =>
                      change(
                        cards.filter((other) => other !== card),
                        () => send(`/board/cards/${card.id}`, { method: 'DELETE' }),
                      )
                    }
                  >
                    ×
                  </button>
                </li>
              ))}
            </ul>
          </section>
        ))}
      </div>
    </main>
  )
}

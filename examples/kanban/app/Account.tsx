import type { Session, User } from '@latchkey/client'
import { useEffect, useState } from 'react'
import { client } from './session.ts'

/** Who is logged in, on which devices, and the ways out. */
export function Account() {
  const [user, setUser] = useState<User>()
  const [sessions, setSessions] = useState<Session[]>()
  const [notice, setNotice] = useState('')

  const tell = (promise: Promise<unknown>) =>
    promise.catch(() => setNotice('The service cannot be reached; try again shortly.'))
  useEffect(() => {
    void tell(client.user().then(setUser))
  }, [])

  const showSessions = () => tell(client.sessions.list().then(setSessions))
  const end = (session: Session) =>
    tell(session.current ? client.signOut({ scope: 'local' }) : client.sessions.end(session.id).then(showSessions))

  return (
    <header>
      <h1>Kanban</h1>
      <span>{user?.email}</span>
      <button
        aria-expanded={sessions !== undefined}
        onClick={() => (sessions ? setSessions(undefined) : void showSessions())}
      >
        Devices
      </button>
      <button onClick={() => void tell(client.signOut({ scope: 'local' }))}>Log out</button>
      <p role="status">{notice}</p>
      {sessions && (
        <section aria-label="Signed in on these devices">
          <h2>Signed in on these devices</h2>
          <ul>
            {sessions.map((session) => (
              <li key={session.id}>
                <span>
                  {session.current ? 'This device' : (session.user_agent ?? 'Unknown device').slice(0, 60)}, last used{' '}
                  {new Date(session.last_used_at).toLocaleString()}
                </span>
                <button onClick={() => void end(session)}>{session.current ? 'Log out here' : 'Log out there'}</button>
              </li>
            ))}
          </ul>
          <button onClick={() => void tell(client.signOut())}>Log out everywhere</button>
        </section>
      )}
    </header>
  )
}

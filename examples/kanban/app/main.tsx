import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { Account } from './Account.tsx'
import { Board } from './Board.tsx'
import { useSession } from './session.ts'
import { SignIn } from './SignIn.tsx'

function App() {
  const { status, session } = useSession()
  if (status === 'signed_out') return <SignIn />
  // Another session is another user, perhaps: nothing of the former one stays.
  return (
    <div key={session}>
      <Account />
      <Board />
    </div>
  )
}

createRoot(document.getElementById('root') as HTMLElement).render(
  <StrictMode>
    <App />
  </StrictMode>,
)

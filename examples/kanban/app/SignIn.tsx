import { LatchkeyError } from '@latchkey/client'
import { type FormEvent, useState } from 'react'
import { client } from './session.ts'

export function SignIn() {
  const [isNew, setNew] = useState(false)
  const [isBusy, setBusy] = useState(false)
  const [error, setError] = useState<LatchkeyError>()

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault()
    const form = new FormData(event.currentTarget)
    const [email, password] = [String(form.get('username')), String(form.get('password'))]
    setBusy(true)
    setError(undefined)
    try {
      if (isNew) await client.signUp({ email, password })
      await client.signIn({ username: email, password })
    } catch (error) {
      if (error instanceof LatchkeyError) setError(error)
      else throw error
    } finally {
      setBusy(false)
    }
  }

  const fields = Object.entries(error?.fields ?? {}).map(([name, detail]) => `${name} ${detail}`)
  return (
    <main className="sign-in">
      <h1>{isNew ? 'Register' : 'Log in'}</h1>
      <form onSubmit={(event) => void submit(event)}>
        <label>
          E-mail
          <input name="username" type="email" autoComplete="username" required />
        </label>
        <label>
          Password
          <input
            name="password"
            type="password"
            autoComplete={isNew ? 'new-password' : 'current-password'}
            minLength={isNew ? 8 : undefined}
            required
          />
        </label>
        <p role="alert">{error && (fields.length > 0 ? fields.join('; ') : error.message)}</p>
        <button disabled={isBusy}>{isNew ? 'Register' : 'Log in'}</button>
      </form>
      <button className="link" onClick={() => setNew(!isNew)}>
        {isNew ? 'I have an account' : 'I am new here'}
      </button>
    </main>
  )
}

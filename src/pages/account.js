const form = document.querySelector('form')
const button = form.querySelector('button')
const message = document.querySelector('#message')
// The token is in the fragment, which browsers send to no server.
const token = new URLSearchParams(location.hash.slice(1)).get('token')

const badLink = 'This link is not valid, was used already, or has expired. Please ask for a new one.'

if (!token) finish('This link is not complete. Please open it from the mail again.', true)

form.addEventListener('submit', (event) => {
  event.preventDefault()
  const fields = Object.fromEntries(new FormData(form))
  const repeated = form.querySelector('#repeated')
  if (repeated && repeated.value !== fields.new_password) {
    say('The two passwords are not the same.', true)
    repeated.focus()
    return
  }
  void send({ token, ...fields })
})

async function send(body) {
  button.disabled = true
  say('One moment …')
  try {
    const reply = await fetch(form.dataset.action, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    if (reply.ok) {
      history.replaceState(null, '', location.pathname)
      finish(form.dataset.done)
      return
    }
    const { code, errors } = await reply.json()
    if (code === 'one_time_token_invalid') finish(badLink, true)
    else if (code === 'password_unsuitable') say(`The password ${errors[0].detail}.`, true)
    else if (code === 'too_many_requests') say('Too many tries. Please wait some minutes.', true)
    else if (code === 'invalid_request') finish(badLink, true)
    else say('That did not work. Please try again shortly.', true)
  } catch {
    say('The service cannot be reached. Please try again shortly.', true)
  } finally {
    button.disabled = false
  }
}

function finish(text, isError = false) {
  form.hidden = true
  say(text, isError)
}

function say(text, isError = false) {
  message.textContent = text
  message.classList.toggle('error', isError)
}

import type { FastifyPluginAsync, FastifyRequest } from 'fastify'
import type { Letter } from '#src/features/mail/letters.ts'
import { Problem } from '#src/problem.ts'
import { escapeHtml, htmlPage, pageHeaders } from './page.ts'

/** The last mails at `GET /dev/mails`, where none is sent: a page for browsers, otherwise JSON. */
const devMailbox: FastifyPluginAsync = async (app) => {
  const letters = app.shownLetters
  if (letters === undefined) return
  app.get('/dev/mails', { schema: { hide: true }, config: { access: 'public' } }, async (request, reply) => {
    if (!isFromHere(request)) throw new Problem('not_found')
    reply.header('vary', 'accept')
    if (request.headers.accept?.includes('text/html') !== true) return letters
    return reply.headers(pageHeaders).send(htmlPage('Mailbox', letters.toReversed().map(article).join('\n'), '../'))
  })
}

/**
 * Links are keys: they are for who sits at this machine, not for who comes through a proxy, nor for a page elsewhere
 * whose name was made to lead here (DNS rebinding).
 */
function isFromHere({ socket, headers }: FastifyRequest): boolean {
  const isForwarded = Object.keys(headers).some((name) => /^(x-forwarded-|forwarded$|x-real-ip$|via$)/.test(name))
  const isLocalName = /^((.+\.)?localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/i.test(headers.host ?? '')
  return !isForwarded && isLocalName && /^(::1|(::ffff:)?127\.)/.test(socket.remoteAddress ?? '')
}

function article({ to, subject, text }: Letter): string {
  const pieces = text.split(/(https?:\/\/\S+)/).map((piece, i) => {
    const escaped = escapeHtml(piece)
    return i % 2 === 1 ? `<a href="${escaped}">${escaped}</a>` : escaped
  })
  return `<article>
<h2>${escapeHtml(subject)}</h2>
<p>To ${escapeHtml(to.address)}</p>
<pre>${pieces.join('')}</pre>
</article>`
}

export default devMailbox

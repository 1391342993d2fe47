import { readFileSync } from 'node:fs'
import { linkOf, mails, type Template } from './mails.ts'

/** A mail as it is sent: one recipient, plain text and the same as HTML. */
export interface Letter {
  readonly messageId: string
  readonly to: { readonly name: string; readonly address: string }
  readonly subject: string
  readonly text: string
  readonly html: string
}

export interface LetterOptions {
  readonly serviceName: string
  /** Where the link of a template leads: `{token}` is replaced, or `token` is added to the query. */
  readonly passwordResetUrl: string
  readonly emailVerifyUrl: string
}

const templates = new Map(
  Object.keys(mails).map((name) => [name, { text: read(`${name}.txt`), html: read(`${name}.html`) }]),
)

/** Letters, marks, spaces and `'.-`; no dot as in `evil.example`, which mail programs make a link. */
const plainName = /^(?!.*\.[\p{L}\p{M}]{2})\p{L}[\p{L}\p{M} .'-]{0,59}$/u

/** Writes a mail from its template; `token` is that of the link, if it has one. */
export function writeLetter(
  options: LetterOptions,
  mail: { messageId: string; template: Template; recipient: string; name: string | null; token: string | undefined },
): Letter {
  const link = linkOf(mail.template)
  const name = mail.name !== null && plainName.test(mail.name) ? mail.name : ''
  const values: Record<string, string> = {
    service: options.serviceName,
    greeting: name === '' ? 'Hello,' : `Hello ${name},`,
    link: link === undefined || mail.token === undefined ? '' : linkTo(options[link.page], mail.token),
  }
  const { text = '', html = '' } = templates.get(mail.template) ?? {}
  return {
    messageId: mail.messageId,
    to: { name, address: mail.recipient },
    subject: mails[mail.template].subject(options.serviceName),
    text: fill(text, values),
    html: fill(html, values, escaped),
  }
}

function linkTo(target: string, token: string): string {
  if (target.includes('{token}')) return target.replaceAll('{token}', token)
  const url = new URL(target)
  url.searchParams.set('token', token)
  return url.href
}

function fill(text: string, values: Record<string, string>, write = (value: string) => value): string {
  return text.replaceAll(/\{\{(\w+)\}\}/g, (_, name: string) => write(values[name] ?? ''))
}

function escaped(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}

function read(file: string): string {
  return readFileSync(new URL(`templates/${file}`, import.meta.url), 'utf8')
}
